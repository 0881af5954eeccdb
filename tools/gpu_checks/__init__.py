"""The sections of tools/check_gpu.py, a module each; what they share is in `settings`, `inputs` and `rows`."""
