"""Events that others send us: signed, delivered at least once, and each handled exactly once."""
