"""Where log lines go: standard error, at once or not at all."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import stat
from datetime import UTC, datetime

from billiard.exceptions import SoftTimeLimitExceeded
from django.conf import settings

_STDERR = 2


class LineHandler(logging.Handler):
    """Writes each record as one line; a reader that has stopped reading costs lines and never time.

    Written directly and by nobody's queue: what is told just before a process ends itself, or is killed, is told. A pipe is
    opened a second time to be written to without waiting, since that flag of the shared one would be every process's.
    """

    def __init__(self, *, own_pipe: bool = True) -> None:
        super().__init__()
        self._fd = _own_pipe() if own_pipe else _STDERR
        self._ready = select.poll()
        self._ready.register(self._fd, select.POLLOUT)
        self._rest = b""  # of a line that a full pipe took half of
        self._dropped = 0
        # Whose half a line it is: the parent writes the other half.
        os.register_at_fork(after_in_child=self._begin_anew)

    def _begin_anew(self) -> None:
        self._rest, self._dropped = b"", 0

    def emit(self, record: logging.LogRecord) -> None:
        """The line is written, or counted as lost. Raises nothing of its own; the lock of the handler is held."""
        try:
            line = self.format(record)
        except SoftTimeLimitExceeded:
            raise  # a signal to the attempt, which came while it was logging
        except Exception as error:  # noqa: BLE001
            line = _bare_line(
                "log.failed",
                record.levelname,
                record.name,
                error=f"{type(error).__module__}.{type(error).__qualname__}",
            )
        with contextlib.suppress(OSError, ValueError):
            self._write(f"{line}\n".encode(errors="backslashreplace"))

    def _write(self, line: bytes) -> None:
        told = self._dropped
        if told:
            line = f"{_bare_line('log.dropped', 'WARNING', __name__, lines=told)}\n".encode() + line
        if self._rest:
            self._flush(self._rest)
        if not self._rest and self._flush(line):
            self._dropped -= told
        else:
            self._dropped += 1

    def _flush(self, whole: bytes) -> bool:
        """Whether it is on its way: written, or begun, the rest kept to be written first next time."""
        if not self._ready.poll(0):
            return False
        try:
            written = os.write(self._fd, whole)
        except BlockingIOError:
            return False
        self._rest = whole[written:]
        return True


def say(event: str, *, logger: str) -> None:
    """A line is written without any of logging's machinery: for signal handlers."""
    with contextlib.suppress(OSError):
        os.write(_STDERR, f"{_bare_line(event, 'INFO', logger)}\n".encode(errors="backslashreplace"))


def _bare_line(event: str, level: str, logger: str, **members: object) -> str:
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    base = {"timestamp": now, "level": level.lower(), "process": settings.PROCESS_KIND, "logger": logger}
    return json.dumps({**base, "event": event, **members})


def _own_pipe() -> int:
    """Standard error; where it is a pipe that may be opened anew, without waiting."""
    with contextlib.suppress(OSError):
        if stat.S_ISFIFO(os.fstat(_STDERR).st_mode):
            return os.open(f"/proc/self/fd/{_STDERR}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return _STDERR
