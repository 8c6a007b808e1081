"""Liveness of processes without a port: `python -m observability.liveness worker|maintenance|beat|streams`.

Each of them leaves a sign of life with every round of its loop: a worker when the broker has answered its poll (or it has no
place for another message), beat with each tick, streams with each turn of its event loop. So a worker that is idle is alive, and
one that hangs, in its loop or in a connection that nobody answers, is not. The standard library alone: a check costs little.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS = ("worker", "maintenance", "beat", "streams")
# Three rounds of the slowest loop: a worker all of whose places are taken looks up every ten seconds.
MAX_AGE_SECONDS = 30.0
# More often nobody asks.
_PAUSE_SECONDS = 1.0


def liveness_folder() -> Path:
    """Where the signs of life lie: ALIVE_DIR, one for each stack on a machine; or a temporary folder of this user's."""
    return Path(os.environ.get("ALIVE_DIR") or f"{tempfile.gettempdir()}/semel-alive-{os.getuid()}")


class Pulse:
    """The sign of life of one process. Never raises: a full disk must not stop what is alive."""

    def __init__(self, kind: str) -> None:
        self._path = liveness_folder() / kind
        self._next_at = 0.0

    def beat(self) -> None:
        """The process was alive just now. Costs a look at the clock, and a small file once a second."""
        now = time.monotonic()
        if now < self._next_at:
            return
        self._next_at = now + _PAUSE_SECONDS
        with contextlib.suppress(OSError):
            self._write(f"{os.getpid()} {now:.3f}\n")

    def _write(self, sign: str) -> None:
        """Whole or not at all: whoever checks never reads half of it. A folder of somebody else's is left alone."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._path.parent.stat().st_uid != os.getuid():
            return
        new = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        new.write_text(sign)
        new.replace(self._path)


def why_not_alive(kind: str, *, max_age: float = MAX_AGE_SECONDS) -> str | None:
    """What is wrong with the process of this kind; None where it is alive."""
    try:
        pid, at = (liveness_folder() / kind).read_text().split()
        age = time.monotonic() - float(at)
    except (OSError, ValueError):
        return f"{kind} has left no sign of life in {liveness_folder()}."
    # The clock counts from the machine's start: a sign from the future is one from before it.
    if not 0 <= age <= max_age:
        return f"{kind} (process {pid}) went round {age:.0f} s ago, more than {max_age:g} s."
    return (
        None
        if Path(f"/proc/{pid}").exists() or not Path("/proc/self").exists()
        else f"{kind} (process {pid}) has ended."
    )


def main(words: Sequence[str] | None = None) -> int:
    """0: alive; 1: not."""
    parser = argparse.ArgumentParser(
        prog="python -m observability.liveness", description="Whether a process still goes round."
    )
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument(
        "--max-age", type=float, default=MAX_AGE_SECONDS, metavar="SECONDS", help="default: 30"
    )
    asked = parser.parse_args(words)
    why = why_not_alive(asked.kind, max_age=asked.max_age)
    sys.stdout.write(f"{why or f'{asked.kind} is alive.'}\n")
    return 0 if why is None else 1


if __name__ == "__main__":
    sys.exit(main())
