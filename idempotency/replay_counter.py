"""Count replays approximately: in memory, written to the records in batches.

A replay itself writes nothing, because replays peak when many clients retry. A process that ends loses the counts that it
has not written yet.
"""

import logging
import threading
from collections import Counter

from django.conf import settings
from django.db import DatabaseError, InterfaceError

from foundation.debounced_task import DebouncedTask
from idempotency import queries

log = logging.getLogger(__name__)


class ReplayCounter:
    """The counts of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[int] = Counter()
        self._task = DebouncedTask(
            "replay-counter", self.flush, seconds=lambda: settings.IDEMPOTENCY_REPLAY_FLUSH_SECONDS
        )

    def count(self, record_id: int) -> None:
        """Count one replay of the record; it is written within IDEMPOTENCY_REPLAY_FLUSH_SECONDS."""
        with self._lock:
            self._counts[record_id] += 1
        self._task.request()

    def flush(self) -> None:
        """Write all counts in one statement. If the database raises an error, log it and drop the counts."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        if counts:
            try:
                queries.add_replays(counts)
            except (DatabaseError, InterfaceError):
                log.warning("replays.not_counted", exc_info=True, extra={"replays": counts.total()})


replay_counter = ReplayCounter()
