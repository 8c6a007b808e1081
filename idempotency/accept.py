"""The protocol: one of any number of equal requests runs, the others get its record. Knows no HTTP.

A duplicate that arrives while the first request is still in its transaction waits on the unique index. Nearly
always that takes milliseconds, so a short wait is free. Who needs longer takes one of a few slots, so that
duplicates of one slow request cannot hold every thread of the process; and one deadline bounds all waits
together, since lock_timeout starts anew with each transaction waited for.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Final, TypeVar

from django.conf import settings
from django.db import transaction

from foundation.fault_points import reach
from foundation.spans import span
from idempotency import queries
from idempotency.compare import take_fingerprint
from idempotency.errors import RequestInProgress
from idempotency.records import Patience, Record, Reservation
from idempotency.registry import has_ended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from idempotency.records import KeyedRequest

Answer = TypeVar("Answer")

# Several times what a first request needs from insert to commit, and short enough to hold a thread without a
# slot.
GRACE_MILLISECONDS: Final = 50
# A winner may be purged, or its expiry extended, between two of our statements: once is chance, three times
# is not.
MAX_TRIES: Final = 3


class Deadline:
    """The moment at which a duplicate gives up, whatever it waits for then."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def allow(self, *, lock_milliseconds: int | None = None) -> Patience:
        """Return what is left, and what one lock may take of it; RequestInProgress at the end."""
        left = int((self._at - time.monotonic()) * 1000)
        if left < 1:
            raise RequestInProgress
        return Patience(lock_milliseconds=min(left, lock_milliseconds or left), total_milliseconds=left)


def find_live(*, scope: str, key: str) -> Record | None:
    """Return the record that answers for the key; None if there is none, or one that may be taken over.

    One statement; for an expired record with a resource also what its judge reads.
    """
    record = queries.look_up(scope=scope, key=key)
    if record is None or (record.is_expired and has_ended(record.resource)):
        return None
    return record


def accept(
    request: KeyedRequest, run: Callable[[Reservation], Answer], *, deadline: Deadline
) -> Answer | Record:
    """Return what `run` answers in the transaction that holds the key, or the record of who was first.

    The transaction is the outermost. What `run` writes shares its fate: committed together with the record,
    or, when `run` raises or sets a rollback, undone together with it, and the key is free again. Raises
    RequestInProgress when the request before this one did not end in time.
    """
    try:
        return _accept(request, run, deadline, nullcontext(), lock_milliseconds=GRACE_MILLISECONDS)
    except queries.LockWaitOver:
        pass  # outside of the handler: the second wait should not carry the first one's error along
    try:
        return _accept(request, run, deadline, _waiting_slot(), lock_milliseconds=None)
    except queries.LockWaitOver:
        raise RequestInProgress from None


def _accept(
    request: KeyedRequest,
    run: Callable[[Reservation], Answer],
    deadline: Deadline,
    slot: AbstractContextManager[None],
    *,
    lock_milliseconds: int | None,
) -> Answer | Record:
    with span("accept"), transaction.atomic(durable=True):
        with slot:  # given back before `run`: by then nothing is waited for
            reach("before_key")
            holder = _reserve(request, deadline, lock_milliseconds)
        if isinstance(holder, Record):
            return holder
        reach("before_job")
        answer = run(holder)
        reach("before_commit")
        return answer


def _reserve(
    request: KeyedRequest, deadline: Deadline, lock_milliseconds: int | None
) -> Reservation | Record:
    """Return the reservation, or the record that stands in its way."""
    fingerprint = take_fingerprint(request.parts)
    for _ in range(MAX_TRIES):
        reservation = queries.reserve(
            request, fingerprint, deadline.allow(lock_milliseconds=lock_milliseconds)
        )
        if reservation is not None:
            return reservation
        winner = queries.look_up(scope=request.scope, key=request.key)
        if winner is None:
            continue  # purged in between
        if not winner.is_expired:
            return winner
        expired = queries.lock_expired(winner.id, deadline.allow(lock_milliseconds=lock_milliseconds))
        if expired is None:
            continue  # purged, taken over or extended in between
        # Asked under the lock: a redrive, which locks the record first, either is seen here or sees the new
        # owner.
        if not has_ended(expired.resource):
            return expired
        reservation = queries.take_over(expired, request, fingerprint)
        if reservation is not None:
            return reservation
    raise RequestInProgress


@contextmanager
def _waiting_slot() -> Iterator[None]:
    """Hold one of the process's slots for waiting duplicates; RequestInProgress when all are taken."""
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
