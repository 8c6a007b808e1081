"""How a stack stops: the same way for Ctrl-C, SIGTERM, a failed start, and a launcher that was killed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from types import FrameType
from typing import TYPE_CHECKING, Self

import psutil

if TYPE_CHECKING:
    from devstack.processes import Identity

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# The environment variable that marks every process of a stack, and their children, with the stack's own token.
TAG = "SEMEL_STACK"
# The servers stop last: the others need them to stop cleanly.
SERVERS = ("broker", "postgres")
# Semel is built to be killed at any moment, so a longer grace gains little.
GRACE_SECONDS = 3.0
# A fast shutdown of PostgreSQL writes a checkpoint. After this time it gets SIGQUIT, and recovers at the next start.
DATABASE_GRACE_SECONDS = 3.0
_POLL_SECONDS = 0.05


class Interrupted(BaseException):
    """A signal ended the command. Like KeyboardInterrupt, it passes every `except Exception`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def exit_code(self) -> int:
        """The exit code that a shell reports for this signal."""
        return 128 + self.number


class Interrupts:
    """Inside ``with``, the first ending signal raises Interrupted. During the stop, a signal only makes it faster."""

    def __init__(self) -> None:
        self._is_stopping = False
        self._is_urgent = False

    def __enter__(self) -> Self:
        for number in ENDING_SIGNALS:
            # Under nohup the terminal may close; SIGHUP stays ignored.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        # The process is about to end by itself.
        for number in ENDING_SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def begin_stopping(self) -> None:
        """Raise nothing from now on: a signal must not interrupt the stop itself."""
        self._is_stopping = True

    def is_urgent(self) -> bool:
        """Return True if a signal arrived during the stop."""
        return self._is_urgent

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._is_stopping:
            self._is_urgent = True
            return
        self._is_stopping = True
        raise Interrupted(number)


def stop_stack(watched: Iterable[Identity], tag: str, *, is_urgent: Callable[[], bool] = lambda: False) -> None:
    """Stop every process of the stack: first those that work, then the servers; SIGKILL after the grace.

    Processes are found by identity and by tag. The tag also finds what was started but not yet announced, and children
    that outlived their parents.
    """
    processes = list(watched)
    servers = [process for process in processes if process.name in SERVERS]

    def others() -> list[psutil.Process]:
        spared = {server.pid for server in servers if server.is_alive}
        return [process for process in tagged_processes(tag) if not _is_below(process, spared)]

    def no_server() -> bool:
        return not any(server.is_alive for server in servers)

    for process in processes:
        if process.name not in SERVERS:
            process.send(process.stop_signal)
    _wait(lambda: not others(), GRACE_SECONDS, is_urgent)
    for survivor in others():
        with contextlib.suppress(psutil.Error):
            survivor.kill()

    for server in servers:
        server.send(server.stop_signal)
    _wait(no_server, DATABASE_GRACE_SECONDS, is_urgent)
    for number in (signal.SIGQUIT, signal.SIGKILL):
        for server in servers:
            server.send(number)
        _wait(no_server, 1.0, is_urgent)
    _wait(lambda: not any(process.is_alive for process in processes) and not tagged_processes(tag), 1.0, lambda: False)


def tagged_processes(tag: str) -> list[psutil.Process]:
    """Return every live process with the tag, except this one."""
    found = []
    for process in psutil.process_iter():
        # Other users' processes cannot be read and are not ours; a process that just ended has no environment.
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(TAG) == tag:
                found.append(process)
    return found


def _is_below(process: psutil.Process, pids: set[int]) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.pid in pids or any(parent.pid in pids for parent in process.parents())
    return False


def _wait(is_done: Callable[[], bool], seconds: float, is_urgent: Callable[[], bool]) -> None:
    """Wait until it is done, the time is over, or the stop became urgent."""
    end = time.monotonic() + seconds
    while not is_done() and time.monotonic() < end and not is_urgent():
        time.sleep(_POLL_SECONDS)
