"""Measurements: `run.py bench`, and the files bench_*.py, which are tests that are started by name."""
