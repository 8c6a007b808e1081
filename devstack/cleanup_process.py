"""The process that stops and removes the stack when the launcher was killed by SIGKILL and cannot do it itself.

It reads a pipe whose only writing end the launcher holds. The end of the pipe means that the launcher has ended, in any way.
A child between fork and exec still has that end open. So when the pipe is closed, every process of the stack has its tag in
its environment.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import IO

from devstack.processes import ROOT, Identity
from devstack.stopping import TAG, stop_stack

_EXIT_SECONDS = 10.0


class CleanupProcess:
    """The launcher's end of the pipe. Started before any other process of the stack."""

    def __init__(self, *, inherits: Iterable[int] = ()) -> None:
        """Start it. ``inherits`` are locks that it holds until the last process of the stack has ended."""
        self.tag = secrets.token_hex(8)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "devstack.cleanup_process", self.tag],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            # A session of its own, which survives a closed terminal, and without the tag of an outer stack.
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name != TAG},
            pass_fds=tuple(inherits),
        )
        assert self._process.stdin is not None  # noqa: S101 - PIPE above
        self._pipe = self._process.stdin

    def watch(self, process: Identity) -> None:
        """Stop this process at the end."""
        self._send({"watch": asdict(process)})

    def remove_at_end(self, path: Path) -> None:
        """Remove this file or folder at the end. Call it before the path is created."""
        self._send({"remove": str(path)})

    def end(self) -> None:
        """Let it end, after the stack was stopped."""
        with contextlib.suppress(BrokenPipeError):
            self._pipe.close()
        self._process.wait(timeout=_EXIT_SECONDS)

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def _send(self, message: dict[str, object]) -> None:
        self._pipe.write(json.dumps(message).encode() + b"\n")
        self._pipe.flush()


def main(tag: str, pipe: IO[bytes]) -> None:
    """Wait for the end of the launcher, then stop its stack and remove its temporary files."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watched: list[Identity] = []
    leftovers: list[Path] = []
    for line in pipe:
        if not line.endswith(b"\n"):  # the launcher was killed while it wrote
            break
        message = json.loads(line)
        if "watch" in message:
            watched.append(Identity(**message["watch"]))
        elif "remove" in message:
            leftovers.append(Path(message["remove"]))
    stop_stack(watched, tag)
    for path in leftovers:
        remove(path)


def remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink() if path.is_file() else shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.stdin.buffer)
