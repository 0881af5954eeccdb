"""Sections of tools/check_gpu.py, one module each, with common parts in `settings`, `inputs` and `rows`."""
