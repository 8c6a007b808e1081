"""The protocol, without HTTP: of any number of equal requests one runs, and the others get its record.

A request that only inserts rows is accepted by one statement (`accept_at_once`). Any other runs in the transaction that holds
its key (`accept`), and so does one that met another request with its key, or an expired record.

A duplicate that arrives while the first request is in its transaction waits on the unique index. That nearly always
takes milliseconds, so a short wait needs no slot. A longer wait takes one of a few slots, so that duplicates of one
slow request cannot hold every thread of the process. One deadline bounds all waits together, because lock_timeout
starts again with each transaction that is waited for.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import lru_cache
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Final, TypeVar

from django.conf import settings
from django.db import transaction

from foundation.fault_points import reach
from foundation.spans import span
from idempotency import queries
from idempotency.comparison import fingerprint_request
from idempotency.errors import RequestInProgress
from idempotency.key_lifetime import has_ended
from idempotency.queries import LockTimeouts, LockWaitTimeout
from idempotency.records import Found, Record, Reservation
from idempotency.stored_response import snapshot

if TYPE_CHECKING:
    from datetime import datetime

    from idempotency.records import KeyedRequest, Work

Answer = TypeVar("Answer")

log = logging.getLogger(__name__)

# Several times what a first request needs from insert to commit, and short enough to hold a thread without a slot.
SHORT_WAIT_MILLISECONDS: Final = 50
# The other request's record may be purged or extended between two statements. One retry is normal; three in a row mean a defect.
MAX_TRIES: Final = 3


class Deadline:
    """The instant at which a duplicate stops waiting. It bounds all of its lock waits together."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def lock_timeouts(self) -> LockTimeouts:
        """Return the time that is left for one lock, and in all. Raises RequestInProgress when none is left."""
        left = int((self._at - time.monotonic()) * 1000)
        if left < 1:
            raise RequestInProgress
        return LockTimeouts(lock_milliseconds=left, total_milliseconds=left)


def find_live(*, scope: str, key: str) -> Found:
    """Return the record that answers for the key, and the database's clock.

    One statement. For an expired record with a resource, also what the registered filters read: if the resource has ended,
    the record may be taken over, and none is returned.
    """
    found = queries.find(scope=scope, key=key)
    record = found.record
    if record is not None and record.is_expired and has_ended(record.resource):
        return Found(record=None, read_at=found.read_at)
    return found


def accept_at_once(request: KeyedRequest, work: Work, *, at: datetime, max_stored_bytes: int | None) -> int | None:
    """Accept the request and write the rows of its work in one statement; return the record's id.

    Return None if that wrote nothing, because the key has a record or another request with it is being accepted. The rows, the
    key and the response are committed together. If the process dies before the statement, nothing is written and the key stays
    free; if it dies after it, a retry gets the stored response, and the sweep does what `work.after_commit` does.
    """
    reach("before_key")
    fingerprint = fingerprint_request(request.parts)
    stored = snapshot(work.response, max_bytes=max_stored_bytes)
    record_id = None
    with span("accept"), suppress(LockWaitTimeout):
        record_id = queries.accept_at_once(request, fingerprint, work, stored, at=at, wait_ms=SHORT_WAIT_MILLISECONDS)
    if record_id is not None:
        try:
            work.after_commit()
        except Exception:  # the request is accepted: its client must not see an error
            log.exception("accept.after_commit_failed")
    return record_id


def accept(request: KeyedRequest, run: Callable[[Reservation], Answer], *, wait_seconds: float) -> Answer | Record:
    """Run the request in the transaction that holds the key and return its answer, or return the record of an earlier one.

    Opens the outermost transaction. The writes of `run` and the record are committed together. If `run` raises or calls
    `set_rollback`, both are rolled back and the key is free again. Raises RequestInProgress if an earlier request with the
    key does not end within `wait_seconds`. They count from the first lock that was waited for in vain, so that a busy machine
    alone never ends a first request.
    """
    with suppress(LockWaitTimeout):
        return _accept(request, run, nullcontext(), lambda: LockTimeouts(lock_milliseconds=SHORT_WAIT_MILLISECONDS))
    with suppress(LockWaitTimeout):
        return _accept(request, run, _waiting_slot(), Deadline(wait_seconds).lock_timeouts)
    raise RequestInProgress


def _accept(
    request: KeyedRequest,
    run: Callable[[Reservation], Answer],
    slot: AbstractContextManager[None],
    lock_timeouts: Callable[[], LockTimeouts],
) -> Answer | Record:
    with span("accept"), transaction.atomic(durable=True):
        with slot:  # the slot is free again before `run`, because `run` does not wait for the record's lock
            reach("before_key")
            holder = _reserve(request, lock_timeouts)
        if isinstance(holder, Record):
            return holder
        reach("before_job")
        answer = run(holder)
        reach("before_commit")
        return answer


def _reserve(request: KeyedRequest, lock_timeouts: Callable[[], LockTimeouts]) -> Reservation | Record:
    """Return the reservation, or the record that prevents it."""
    fingerprint = fingerprint_request(request.parts)
    for _ in range(MAX_TRIES):
        reservation = queries.reserve(request, fingerprint, lock_timeouts())
        if reservation is not None:
            return reservation
        winner = queries.find(scope=request.scope, key=request.key).record
        if winner is None:
            continue  # purged in between
        if not winner.is_expired:
            return winner
        expired = queries.lock_expired(winner.id, lock_timeouts())
        if expired is None:
            continue  # purged, taken over or extended in between
        # Check while the record is locked. A redrive locks the record first. So either its commit is visible here,
        # or it reads the new owner.
        if not has_ended(expired.resource):
            return expired
        reservation = queries.take_over(expired, request, fingerprint)
        if reservation is not None:
            return reservation
    raise RequestInProgress


@contextmanager
def _waiting_slot() -> Iterator[None]:
    """Hold one of the process's slots for waiting duplicates. Raises RequestInProgress when all are taken."""
    slots = _slots(settings.IDEMPOTENCY_WAITING_DUPLICATES)
    if not slots.acquire(blocking=False):
        raise RequestInProgress
    try:
        yield
    finally:
        slots.release()


@lru_cache(maxsize=4)
def _slots(count: int) -> BoundedSemaphore:
    return BoundedSemaphore(count)
