"""Storage is bounded: expired records are deleted, once what they started has ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from django.db import transaction

from idempotency import queries
from idempotency.records import Expired
from idempotency.registry import find_ended

if TYPE_CHECKING:
    from collections.abc import Iterator

_BEGINNING = Expired(id=0, expires_at=datetime.min.replace(tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class Counts:
    """What a purge did."""

    deleted: int = 0
    kept: int = 0  # old enough, but needed: what the record started has not ended, say

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.deleted + other.deleted, self.kept + other.kept)


def run_once(limit: int) -> Counts:
    """Every record that has expired by now and whose resource has ended is gone, `limit` a transaction."""
    return sum(batches(limit), start=Counts())


def batches(limit: int) -> Iterator[Counts]:
    """Delete the records that have expired by now and whose resource has ended, a batch a step.

    Records locked by a request, a redrive or another purge are left for the next time. Those that must stay
    are passed by, so any number of them holds up nobody behind them.
    """
    until, after = queries.read_clock(), _BEGINNING
    while True:
        counts, last = _purge_batch(until=until, after=after, limit=limit)
        yield counts
        if last is None:
            return
        after = last


def _purge_batch(*, until: datetime, after: Expired, limit: int) -> tuple[Counts, Expired | None]:
    """Return what was done, and the last record seen; None when there are no more behind it."""
    with transaction.atomic(durable=True):
        batch = queries.lock_expired_batch(until=until, after=after, limit=limit)
        # Asked under the locks: whoever starts the resource again locks its record first.
        ended = find_ended({record.resource for record in batch})
        gone = [record.id for record in batch if record.resource in ended]
        deleted = queries.delete_records(gone) if gone else 0
    return Counts(deleted, kept=len(batch) - deleted), batch[-1] if len(batch) == limit else None


def lag_seconds(limit: int) -> float:
    """For how long the oldest record that could be deleted has waited for it; 0 where the `limit` oldest must all stay."""
    overdue = queries.read_overdue(limit=limit)
    ended = find_ended({resource for _, resource in overdue})
    return max((seconds for seconds, resource in overdue if resource in ended), default=0.0)
