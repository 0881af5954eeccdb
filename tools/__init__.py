"""Benchmarks and the yardsticks they measure against; run as scripts, imported by tests."""
