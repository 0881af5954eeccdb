"""Image files, trimaps, videos, training samples and test sets."""
