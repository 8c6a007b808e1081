"""A sandbox payment provider: a real process that stores what it did and can fail on request. It needs only Python."""
