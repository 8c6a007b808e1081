"""What the launcher prints."""

import time


class LauncherError(Exception):
    """One line for the user: what is wrong and what to do. It ends the command with exit code 1."""


class Console:
    """Prints lines to standard output with the seconds since the start at the left."""

    def __init__(self) -> None:
        self._started_at = time.monotonic()

    def print(self, line: str) -> None:
        # Flushed, so that it is seen at once where output is a pipe.
        print(f"{time.monotonic() - self._started_at:6.2f} s  {line}", flush=True)

    def print_more(self, line: str) -> None:
        """Print a line that belongs to the one before."""
        print(f"          {line}", flush=True)
