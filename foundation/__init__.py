"""Modules that every package may import: exact JSON, fault points, spans and debounced tasks."""
