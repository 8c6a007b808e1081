"""The protocol, without HTTP: of any number of equal requests one runs, and the others get its record.

A duplicate that arrives while the first request is in its transaction waits on the unique index. That nearly always
takes milliseconds, so a short wait needs no slot. A longer wait takes one of a few slots, so that duplicates of one
slow request cannot hold every thread of the process. One deadline bounds all waits together, because lock_timeout
starts again with each transaction that is waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
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
from idempotency.records import Record, Reservation

if TYPE_CHECKING:
    from idempotency.records import KeyedRequest

Answer = TypeVar("Answer")

# Several times what a first request needs from insert to commit, and short enough to hold a thread without a slot.
SHORT_WAIT_MILLISECONDS: Final = 50
# The other request's record may be purged or extended between two statements. One retry is normal; three in a row mean a defect.
MAX_TRIES: Final = 3


class Deadline:
    """The instant at which a duplicate stops waiting. It bounds all of its lock waits together."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def lock_timeouts(self, *, lock_milliseconds: int | None = None) -> LockTimeouts:
        """Return the time that is left in all, and for one lock. Raises RequestInProgress when none is left."""
        left = int((self._at - time.monotonic()) * 1000)
        if left < 1:
            raise RequestInProgress
        return LockTimeouts(lock_milliseconds=min(left, lock_milliseconds or left), total_milliseconds=left)


def find_live(*, scope: str, key: str) -> Record | None:
    """Return the record that answers for the key; None if there is none, or one that may be taken over.

    One statement. For an expired record with a resource, also what the registered filters read.
    """
    record = queries.look_up(scope=scope, key=key)
    if record is None or (record.is_expired and has_ended(record.resource)):
        return None
    return record


def accept(request: KeyedRequest, run: Callable[[Reservation], Answer], *, deadline: Deadline) -> Answer | Record:
    """Run the request in the transaction that holds the key and return its answer, or return the record of an earlier one.

    Opens the outermost transaction. The writes of `run` and the record are committed together. If `run` raises or calls
    `set_rollback`, both are rolled back and the key is free again. Raises RequestInProgress if an earlier request with the
    key does not end before the deadline.
    """
    for slot, lock_milliseconds in ((nullcontext(), SHORT_WAIT_MILLISECONDS), (_waiting_slot(), None)):
        with suppress(LockWaitTimeout), span("accept"), transaction.atomic(durable=True):
            with slot:  # the slot is free again before `run`, because `run` does not wait for the record's lock
                reach("before_key")
                holder = _reserve(request, deadline, lock_milliseconds)
            if isinstance(holder, Record):
                return holder
            reach("before_job")
            answer = run(holder)
            reach("before_commit")
            return answer
    raise RequestInProgress


def _reserve(request: KeyedRequest, deadline: Deadline, lock_milliseconds: int | None) -> Reservation | Record:
    """Return the reservation, or the record that prevents it."""
    fingerprint = fingerprint_request(request.parts)
    for _ in range(MAX_TRIES):
        timeouts = deadline.lock_timeouts(lock_milliseconds=lock_milliseconds)
        reservation = queries.reserve(request, fingerprint, timeouts)
        if reservation is not None:
            return reservation
        winner = queries.look_up(scope=request.scope, key=request.key)
        if winner is None:
            continue  # purged in between
        if not winner.is_expired:
            return winner
        timeouts = deadline.lock_timeouts(lock_milliseconds=lock_milliseconds)
        expired = queries.lock_expired(winner.id, timeouts)
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
