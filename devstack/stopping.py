"""How a stack ends: the same for Ctrl-C, SIGTERM, a failed start, and a launcher that was killed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from devstack.processes import Identity

# Every process of a stack carries this variable with the stack's own token; so do its children, whatever they become.
TAG = "SEMEL_STACK"
# The databases, which the others need to stop in good order.
LAST = ("broker", "postgres")
# Seconds that processes get to end by themselves. Semel is built to be killed at any moment: patience buys little.
GRACE_SECONDS = 3.0
# A fast shutdown of PostgreSQL writes a checkpoint; after that SIGQUIT, and its recovery at the next start.
DATABASE_GRACE_SECONDS = 3.0
_POLL_SECONDS = 0.05


def never() -> bool:
    """Nobody is in a hurry."""
    return False


def stop(watched: Iterable[Identity], tag: str, *, is_urgent: Callable[[], bool] = never) -> None:
    """No process of the stack runs any more.

    First those that work, then the databases under them; each by its own signal, and SIGKILL after the grace.
    Found by identity and by tag: the tag finds also what was started but not yet announced, and children that
    outlived their parents.
    """
    processes = list(watched)
    databases = [one for one in processes if one.name in LAST]
    workers = [one for one in processes if one.name not in LAST]

    def rest() -> list[psutil.Process]:
        spared = {one.pid for one in databases if one.is_alive}
        return [one for one in tagged(tag) if not _is_below(one, spared)]

    for one in workers:
        one.send(one.stop_signal)
    _wait(lambda: not rest(), GRACE_SECONDS, is_urgent)
    for survivor in rest():
        _kill(survivor)

    for one in databases:
        one.send(one.stop_signal)
    _wait(lambda: not any(one.is_alive for one in databases), DATABASE_GRACE_SECONDS, is_urgent)
    for one in databases:
        one.send(signal.SIGQUIT)
    _wait(lambda: not any(one.is_alive for one in databases), 1.0, is_urgent)
    for one in databases:
        one.send(signal.SIGKILL)
    _wait(lambda: not any(one.is_alive for one in processes) and not tagged(tag), 1.0, never)


def tagged(tag: str) -> list[psutil.Process]:
    """Every live process that carries the tag, apart from this one."""
    found = []
    for process in psutil.process_iter():
        # Other people's processes cannot be read, and are not ours; one that just ended has no environment.
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(TAG) == tag:
                found.append(process)
    return found


def _is_below(process: psutil.Process, pids: set[int]) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.pid in pids or any(parent.pid in pids for parent in process.parents())
    return False


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.Error):
        process.kill()


def _wait(is_done: Callable[[], bool], seconds: float, is_urgent: Callable[[], bool]) -> None:
    """Return once it is done, or the time is up, or someone is in a hurry."""
    end = time.monotonic() + seconds
    while not is_done() and time.monotonic() < end and not is_urgent():
        time.sleep(_POLL_SECONDS)
