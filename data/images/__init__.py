"""Pictures: reading and writing files, and trimaps."""
