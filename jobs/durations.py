"""The typical run time of an operation's jobs, for `Retry-After`.

It is refreshed in the background, so a request sends no statement.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import DatabaseError, InterfaceError

from foundation.debounced_task import DebouncedTask
from jobs.queries.statistics import JobKind, median_seconds

if TYPE_CHECKING:
    from jobs.models import Job

log = logging.getLogger(__name__)

# Kinds that one process remembers: more than it serves in an hour. The oldest are dropped first.
_MAX_KINDS = 10_000
# Kinds per statement; the others wait for the next refresh.
_KINDS_AT_ONCE = 200


class TypicalDurations:
    """Remembers the durations of the kinds of jobs that were requested lately."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[JobKind, float] = {}
        self._requested: set[JobKind] = set()
        self._refresh_task = DebouncedTask(
            "typical-durations", self.refresh, seconds=lambda: settings.DURATIONS_REFRESH_SECONDS
        )

    def seconds_of(self, job: Job) -> float:
        """Return how long such a job typically runs, 0 if not known yet; request a refresh."""
        kind = JobKind(job.tenant_id, job.mode, job.operation)
        with self._lock:
            if len(self._requested) < _KINDS_AT_ONCE:
                self._requested.add(kind)
            seconds = self._seconds.get(kind, 0.0)
        self._refresh_task.request()
        return seconds

    def refresh(self) -> None:
        """Read the durations requested since the last refresh. If the database fails, keep the old ones."""
        with self._lock:
            requested, self._requested = self._requested, set()
        try:
            medians = median_seconds(requested) if requested else {}
        except (DatabaseError, InterfaceError):
            log.warning("durations.not_refreshed", exc_info=True)
            return
        with self._lock:
            self._seconds |= medians
            for kind in list(self._seconds)[: max(0, len(self._seconds) - _MAX_KINDS)]:
                del self._seconds[kind]

    def forget(self) -> None:
        """Forget everything, as in a new process."""
        with self._lock:
            self._seconds.clear()
            self._requested.clear()


typical_durations = TypicalDurations()
