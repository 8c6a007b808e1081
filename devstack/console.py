"""What the launcher says, with the seconds since it began."""

from __future__ import annotations

import time


class Console:
    """Plain lines on standard output, the elapsed time at the left."""

    def __init__(self) -> None:
        """The clock starts."""
        self._began_at = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began_at

    def say(self, line: str) -> None:
        """The line is on the screen now, also where output is a pipe."""
        print(f"{self.elapsed:6.2f} s  {line}", flush=True)

    def more(self, line: str = "") -> None:
        """A line that belongs to the one before."""
        print(f"          {line}".rstrip(), flush=True)
