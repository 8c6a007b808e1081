"""A sandbox payment provider: a real process that remembers, and misbehaves on demand. Needs only Python."""
