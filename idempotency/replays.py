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
from django.db import DatabaseError, InterfaceError, connection

from idempotency import queries

log = logging.getLogger(__name__)


class ReplayTally:
    """The counts of one process. A timer's thread, which lives only while there is something to write, writes them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[int] = Counter()
        self._is_waiting = False

    def note(self, record_id: int) -> None:
        """One more replay of the record, to be written within IDEMPOTENCY_REPLAY_FLUSH_SECONDS."""
        with self._lock:
            self._counts[record_id] += 1
            if self._is_waiting:
                return
            self._is_waiting = True
        timer = threading.Timer(settings.IDEMPOTENCY_REPLAY_FLUSH_SECONDS, self._flush_and_disconnect)
        timer.name, timer.daemon = "replay-tally", True
        try:
            timer.start()
        except RuntimeError:  # no thread to be had at this moment; the next replay tries again
            self._is_waiting = False
            log.warning("replays.no_thread")

    def flush(self) -> None:
        """What was counted until now is in the database, in one statement; or lost, if the database does not take it."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
            self._is_waiting = False
        if counts:
            try:
                queries.add_replays(counts)
            except (DatabaseError, InterfaceError):
                log.warning("replays.not_counted", exc_info=True, extra={"replays": counts.total()})

    def _flush_and_disconnect(self) -> None:
        try:
            self.flush()
        finally:
            connection.close()


tally = ReplayTally()


def note_replay(*, record_id: int, **_signal: Any) -> None:  # noqa: ANN401 # a signal's receiver
    """Count a replay (`signals.replayed`)."""
    tally.note(record_id)
