"""Work that may wait a little, and is then done once for all who asked, behind their backs."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from django.db import connection

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)


class Later:
    """A timer's thread, which lives only while somebody has asked. What a process has not done yet is lost with it."""

    def __init__(self, name: str, work: Callable[[], None], *, seconds: Callable[[], float]) -> None:
        self._name = name
        self._work = work
        self._seconds = seconds
        self._lock = threading.Lock()
        self.is_asked = False  # whether the work is ahead

    def ask(self) -> None:
        """The work is done within `seconds`, and finds what its caller has left for it before this call."""
        with self._lock:
            must_start, self.is_asked = not self.is_asked, True
        if must_start:
            self._start()

    def _start(self) -> None:
        timer = threading.Timer(self._seconds(), self._run)
        timer.name, timer.daemon = self._name, True
        try:
            timer.start()
        except RuntimeError:  # no thread to be had at this moment; whoever asks next tries again
            self.is_asked = False
            log.warning("later.no_thread", extra={"work": self._name})

    def _run(self) -> None:
        # Before the work looks: whoever comes after its look must ask anew.
        self.is_asked = False
        try:
            self._work()
        finally:
            connection.close()
