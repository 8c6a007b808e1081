"""What every room may import: exact JSON, fault points, spans and debounced tasks."""
