"""How often a key's answer was replayed, approximately: counted in memory, written in batches.

A replay writes nothing itself: it is the answer to the many retries of a bad moment. What a process has counted and not
yet written is lost with it.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import Any

from django.conf import settings
from django.db import DatabaseError, InterfaceError

from foundation.debounced_task import Later
from idempotency import queries

log = logging.getLogger(__name__)


class ReplayTally:
    """The counts of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[int] = Counter()
        self._later = Later(
            "replay-tally", self.flush, seconds=lambda: settings.IDEMPOTENCY_REPLAY_FLUSH_SECONDS
        )

    def note(self, record_id: int) -> None:
        """One more replay of the record, to be written within IDEMPOTENCY_REPLAY_FLUSH_SECONDS."""
        with self._lock:
            self._counts[record_id] += 1
        self._later.ask()

    def flush(self) -> None:
        """What was counted until now is in the database, in one statement; or lost, if the database does not take it."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        if counts:
            try:
                queries.add_replays(counts)
            except (DatabaseError, InterfaceError):
                log.warning("replays.not_counted", exc_info=True, extra={"replays": counts.total()})


tally = ReplayTally()


def note_replay(*, record_id: int, **_signal: Any) -> None:  # noqa: ANN401 # a signal's receiver
    """Count a replay (`signals.replayed`)."""
    tally.note(record_id)
