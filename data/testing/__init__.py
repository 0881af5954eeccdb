"""Test sets: folders of photographs with trimaps and mattes, Composition-1k."""
