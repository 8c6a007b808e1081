"""Everything of ours that talks to Redis. What is in Redis may be lost at any time."""
