"""How long an operation usually takes: what a process knows of it, for hints, at the cost of no statement to any request."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import DatabaseError, InterfaceError

from foundation.debounced_task import DebouncedTask
from jobs.queries.durations import Kind, median_seconds

if TYPE_CHECKING:
    from jobs.models import Job

log = logging.getLogger(__name__)

# Kinds that one process remembers: more than it serves in an hour; the first to be forgotten is the first that was learnt.
_MAX_KINDS = 10_000
# Kinds that one statement asks for; those beyond are asked for by whoever comes next.
_KINDS_AT_ONCE = 200


class TypicalDurations:
    """Learnt in the background, and only of what is asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Kind, float] = {}
        self._asked: set[Kind] = set()
        self._refresh_task = DebouncedTask(
            "usual-durations", self.refresh, seconds=lambda: settings.DURATIONS_REFRESH_SECONDS
        )

    def seconds_of(self, job: Job) -> float:
        """How long such a job usually runs, as far as is known; 0 where nothing is. It is looked up again before long."""
        kind = Kind(job.tenant_id, job.mode, job.operation)
        with self._lock:
            if len(self._asked) < _KINDS_AT_ONCE:
                self._asked.add(kind)
            known = self._known.get(kind, 0.0)
        self._refresh_task.request()
        return known

    def refresh(self) -> None:
        """What was asked for since the last time is known; as it was before, if the database does not say."""
        with self._lock:
            asked, self._asked = self._asked, set()
        try:
            found = median_seconds(asked) if asked else {}
        except (DatabaseError, InterfaceError):
            log.warning("durations.not_learnt", exc_info=True)
            return
        with self._lock:
            self._known |= found
            for kind in list(self._known)[: max(0, len(self._known) - _MAX_KINDS)]:
                del self._known[kind]

    def forget(self) -> None:
        """Nothing is known, as when a process begins."""
        with self._lock:
            self._known.clear()
            self._asked.clear()


typical_durations = TypicalDurations()
