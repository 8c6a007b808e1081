"""Liveness files of the processes without a port: `python -m observability.liveness worker|maintenance|beat|streams`.

Each process touches its file in every round of its loop: a worker when the broker has answered its poll, or when it has no
free slot for another message; beat with each tick; streams with each turn of its event loop. So an idle worker is alive. One
that hangs, in its loop or on a connection without an answer, is not. Standard library only: a check is cheap.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path

KINDS = ("worker", "maintenance", "beat", "streams")
# Three times the slowest interval: a worker without a free slot touches its file every ten seconds.
MAX_AGE_SECONDS = 30.0
_TOUCH_SECONDS = 1.0


def liveness_folder() -> Path:
    """Return ALIVE_DIR, one for each stack of a machine; by default a temporary folder of this user."""
    return Path(os.environ.get("ALIVE_DIR") or f"{tempfile.gettempdir()}/semel-alive-{os.getuid()}")


class LivenessFile:
    """The file that shows when a process last went through its loop."""

    def __init__(self, kind: str) -> None:
        self._path = liveness_folder() / kind
        self._next_at = 0.0

    def touch(self) -> None:
        """Write the file, once a second at most. Raise nothing: a full disk must not stop a process that works."""
        now = time.monotonic()
        if now < self._next_at:
            return
        self._next_at = now + _TOUCH_SECONDS
        with contextlib.suppress(OSError):
            self._write(f"{os.getpid()} {now:.3f}\n")

    def _write(self, text: str) -> None:
        """Replace the file in one step, so that a check never reads half of it. Write to no other user's folder."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._path.parent.stat().st_uid != os.getuid():
            return
        new = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        new.write_text(text)
        new.replace(self._path)


def liveness_error(kind: str, *, max_age: float = MAX_AGE_SECONDS) -> str | None:
    """Return what is wrong with the process of this kind; None if it is alive."""
    try:
        pid, touched_at = (liveness_folder() / kind).read_text().split()
        age = time.monotonic() - float(touched_at)
    except (OSError, ValueError):
        return f"{kind} has no liveness file in {liveness_folder()}."
    # The clock starts with the machine: a time in the future is from before the last restart.
    if not 0 <= age <= max_age:
        return f"{kind} (process {pid}) was last alive {age:.0f} s ago, more than {max_age:g} s."
    has_proc = Path("/proc/self").exists()
    return f"{kind} (process {pid}) has ended." if has_proc and not Path(f"/proc/{pid}").exists() else None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--max-age", type=float, default=MAX_AGE_SECONDS, help="seconds; default: 30")


def report(kind: str, max_age: float) -> int:
    """Print whether the process is alive. Return the exit code: 0 if it is, else 1."""
    error = liveness_error(kind, max_age=max_age)
    sys.stdout.write(f"{error or f'{kind} is alive.'}\n")
    return 0 if error is None else 1


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(
        prog="python -m observability.liveness", description="Check that a process on this host is alive."
    )
    add_arguments(_parser)
    sys.exit(report(**vars(_parser.parse_args())))
