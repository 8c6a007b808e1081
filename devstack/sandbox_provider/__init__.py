"""A sandbox payment provider: a real process that stores what it did and misbehaves on request. It needs only Python."""
