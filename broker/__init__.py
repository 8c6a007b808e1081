"""Everything that talks to Redis: hints, wake-ups, rate limits. What is in Redis may be lost at any time."""
