"""Measurements: not part of the suite, started by name."""
