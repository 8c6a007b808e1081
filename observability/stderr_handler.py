"""Write log lines to standard error without blocking. A line that cannot be written at once is dropped."""

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


class StderrHandler(logging.Handler):
    """Write each record as one line. If the reader of a pipe stops reading, lines are dropped; the process never waits.

    Lines are written directly, without a queue, so that the last ones before a process is killed are there. The pipe is opened a
    second time to be written to without waiting, because the O_NONBLOCK flag of standard error is shared by all its processes.
    """

    def __init__(self, *, own_pipe: bool = True) -> None:
        super().__init__()
        self._fd = _open_pipe() if own_pipe else _STDERR
        self._ready = select.poll()
        self._ready.register(self._fd, select.POLLOUT)
        self._rest = b""  # the unwritten rest of a line, if the pipe was nearly full
        self._dropped = 0
        # The parent writes its own rest.
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._rest, self._dropped = b"", 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or count it as dropped. Never raise an error of logging itself."""
        try:
            line = self.format(record)
        except SoftTimeLimitExceeded:
            raise  # a signal for the attempt that is logging
        except Exception as error:  # noqa: BLE001
            kind = f"{type(error).__module__}.{type(error).__qualname__}"
            line = _bare_line("log.failed", record.levelname, record.name, error=kind)
        with contextlib.suppress(OSError, ValueError):
            self._write(f"{line}\n".encode(errors="backslashreplace"))

    def _write(self, line: bytes) -> None:
        dropped = self._dropped
        if dropped:
            line = f"{_bare_line('log.dropped', 'WARNING', __name__, lines=dropped)}\n".encode() + line
        if self._rest:
            self._flush(self._rest)
        if not self._rest and self._flush(line):
            self._dropped -= dropped
        else:
            self._dropped += 1

    def _flush(self, text: bytes) -> bool:
        """Write the text, in part if the pipe is nearly full, and keep the rest. Return False if nothing was written."""
        if not self._ready.poll(0):
            return False
        try:
            written = os.write(self._fd, text)
        except BlockingIOError:
            return False
        self._rest = text[written:]
        return True


def write_line(event: str, *, logger: str) -> None:
    """Write a log line without the locks of `logging`: for signal handlers."""
    with contextlib.suppress(OSError):
        os.write(_STDERR, f"{_bare_line(event, 'INFO', logger)}\n".encode(errors="backslashreplace"))


def _bare_line(event: str, level: str, logger: str, **members: object) -> str:
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    base = {"timestamp": now, "level": level.lower(), "process": settings.PROCESS_KIND, "logger": logger}
    return json.dumps({**base, "event": event, **members})


def _open_pipe() -> int:
    """Return a non-blocking descriptor of its own for standard error if that is a pipe; else standard error."""
    with contextlib.suppress(OSError):
        if stat.S_ISFIFO(os.fstat(_STDERR).st_mode):
            return os.open(f"/proc/self/fd/{_STDERR}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return _STDERR
