"""A training run: put together, stepped, scored, saved, and continued where it was cut."""
