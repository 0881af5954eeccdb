"""What the models see: image files, trimaps, training samples, test sets."""
