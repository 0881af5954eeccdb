"""Formats of image files: headers and pixels that Pillow does not read, misreads, or does not report."""
