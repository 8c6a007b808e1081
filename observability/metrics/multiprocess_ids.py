"""A process's place among those that share a folder for their figures: a number that is one living process's alone.

Whoever dies, in whatever way, leaves its number and its file, and the next that comes goes on with both: so counters never
fall, and files do not pile up however many children a worker has had. The kernel says who lives: a lock ends with its holder.
Containers that share the folder share the locks, whatever their host names and process ids.
"""

from __future__ import annotations

import fcntl
import itertools
import os
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)


class Slots:
    """The numbers of one folder, and which of them is this process's. A forked child takes another one when it first counts."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._lock: int | None = None
        self._mine = ""
        os.register_at_fork(after_in_child=self._forget)

    def mine(self) -> str:
        """This process's number: the lowest that is free when it is first asked for."""
        if self._lock is None:
            self._lock, self._mine = self._take()
        return self._mine

    def is_held(self, number: str) -> bool:
        """Whether the process that has the number lives."""
        try:
            lock = os.open(self._path(number), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def _take(self) -> tuple[int, str]:
        for number in map(str, itertools.count()):
            lock = os.open(self._path(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            # What was true of the predecessor at its end, and only while it lived: how many requests wait, say.
            for stale in self.folder.glob(f"gauge_live*_{number}.db"):
                stale.unlink(missing_ok=True)
            return lock, number
        raise AssertionError  # the numbers have no end

    def _forget(self) -> None:
        """In a child: the number is the parent's, who holds the lock on. Closing our copy of it gives nothing free."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _path(self, number: str) -> Path:
        return self.folder / f"{number}.lock"


def take_place(folder: str) -> Slots | None:
    """This process has its number in the folder; None where there is no folder, or none that can be used: it counts alone then.

    A service that works and cannot be watched is better than one that does not start.
    """
    if not folder:
        return None
    try:
        slots = Slots(Path(folder))
        slots.mine()
    except OSError as error:
        log.error("metrics.folder_unusable", folder=folder, error=repr(error))  # noqa: TRY400 - the error says it all
        return None
    return slots
