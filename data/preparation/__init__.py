"""Preparation of data sets: the checker and the builder of Composition-1k."""
