"""All code of Semel that uses Redis. The data in Redis may be lost at any time."""
