"""Ids of the processes that share a folder of metrics. No two living processes have the same id.

The next process to start takes over the id and the files of a dead one. So counters never fall, and files do not pile up however
many children a worker has had. An id is a file lock, which the kernel releases when its holder ends. Containers that share the
folder share the locks, whatever their host names and process ids are.
"""

import fcntl
import itertools
import os
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)


class ProcessIds:
    """The ids of one folder, and this process's own. A forked child takes another one when it first counts."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._lock: int | None = None
        self._own = ""
        os.register_at_fork(after_in_child=self._release)

    def own(self) -> str:
        """Return this process's id. The first call takes the lowest free one."""
        if self._lock is None:
            self._lock, self._own = self._take()
        return self._own

    def is_alive(self, process_id: str) -> bool:
        """Return whether a living process has this id."""
        try:
            lock = os.open(self._path(process_id), os.O_RDONLY | os.O_CLOEXEC)
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
        for process_id in map(str, itertools.count()):
            lock = os.open(self._path(process_id), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            # Remove gauges that are valid only while their process lives, such as the number of open streams.
            for stale in self.folder.glob(f"gauge_live*_{process_id}.db"):
                stale.unlink(missing_ok=True)
            return lock, process_id
        raise AssertionError  # itertools.count() has no end

    def _release(self) -> None:
        """Give up the parent's id in a forked child. The parent keeps its lock when this copy of it is closed."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _path(self, process_id: str) -> Path:
        return self.folder / f"{process_id}.lock"


def open_folder(folder: str) -> ProcessIds | None:
    """Take an id in the folder. Return None, so that this process counts alone, if there is no folder or it is unusable.

    A service without metrics is better than one that does not start.
    """
    if not folder:
        return None
    try:
        ids = ProcessIds(Path(folder))
        ids.own()
    except OSError as error:
        log.error("metrics.folder_unusable", folder=folder, error=repr(error))  # noqa: TRY400 - the trace adds nothing
        return None
    return ids
