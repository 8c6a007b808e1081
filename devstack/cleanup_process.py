"""The process that cleans up when the launcher cannot: it outlives a SIGKILL of the launcher, and only that.

It reads a pipe whose one writing end is the launcher's. The end of the pipe means that the launcher is gone, in whatever way;
a child caught between fork and exec still holds that end, so by then every process of the stack carries its tag.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING

from devstack.processes import ROOT, Identity
from devstack.stopping import TAG, stop

if TYPE_CHECKING:
    from collections.abc import Iterable

_FAREWELL_SECONDS = 10.0


class Guardian:
    """The launcher's end of the pipe. Started before anything else of the stack."""

    def __init__(self, *, inherits: Iterable[int] = ()) -> None:
        """``inherits``: locks to hold until the last process of the stack has ended."""
        self.tag = secrets.token_hex(8)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "devstack.cleanup_process", self.tag],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            # Not the launcher's session (a closed terminal ends that), nor an outer stack's tag.
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name != TAG},
            pass_fds=tuple(inherits),
        )

    def watch(self, process: Identity) -> None:
        """This process will be stopped."""
        self._tell({"watch": asdict(process)})

    def remove_at_end(self, path: Path) -> None:
        """This file or folder will be gone. Told before it is made: no moment is uncovered."""
        self._tell({"remove": str(path)})

    def dismiss(self) -> None:
        """The guardian has ended too, and with it the last trace of the stack."""
        with contextlib.suppress(BrokenPipeError):
            self._pipe.close()
        self._process.wait(timeout=_FAREWELL_SECONDS)

    @property
    def is_alive(self) -> bool:
        """Whether someone still watches."""
        return self._process.poll() is None

    @property
    def _pipe(self) -> IO[bytes]:
        assert self._process.stdin is not None  # noqa: S101 - PIPE above
        return self._process.stdin

    def _tell(self, message: dict[str, object]) -> None:
        self._pipe.write(json.dumps(message).encode() + b"\n")
        self._pipe.flush()


def main(tag: str, pipe: IO[bytes]) -> None:
    """Wait for the end of the launcher; then nothing of its stack runs, and no temporary file is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watched: list[Identity] = []
    leftovers: list[Path] = []
    for line in pipe:
        if not line.endswith(b"\n"):  # killed in the middle of a word
            break
        message = json.loads(line)
        if "watch" in message:
            watched.append(Identity(**message["watch"]))
        elif "remove" in message:
            leftovers.append(Path(message["remove"]))
    stop(watched, tag)
    for path in leftovers:
        remove(path)


def remove(path: Path) -> None:
    """Neither file nor folder is there."""
    with contextlib.suppress(OSError):
        path.unlink() if path.is_file() else shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.stdin.buffer)
