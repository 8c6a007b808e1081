"""Background work that is done once for many requests."""

import logging
import threading
from collections.abc import Callable

from django.db import connection

log = logging.getLogger(__name__)


class DebouncedTask:
    """Runs `work` on a timer thread, `seconds` after the first request. Requests until then are served by the same run.

    A run that is pending when the process ends is lost.
    """

    def __init__(self, name: str, work: Callable[[], None], *, seconds: Callable[[], float]) -> None:
        self._name = name
        self._work = work
        self._seconds = seconds
        self._lock = threading.Lock()
        self.is_pending = False

    def request(self) -> None:
        """Make sure that a run begins after this call, within `seconds`."""
        with self._lock:
            must_start, self.is_pending = not self.is_pending, True
        if must_start:
            self._start()

    def _start(self) -> None:
        timer = threading.Timer(self._seconds(), self._run)
        timer.name, timer.daemon = self._name, True
        try:
            timer.start()
        except RuntimeError:  # the system has no thread left; the next request tries again
            self.is_pending = False
            log.warning("debounced_task.no_thread", extra={"work": self._name})

    def _run(self) -> None:
        # Reset before the work: a request that arrives during the work must start another run.
        self.is_pending = False
        try:
            self._work()
        finally:
            connection.close()
