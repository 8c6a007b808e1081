"""Delete expired records whose resource has ended, so that storage stays bounded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db import transaction

from idempotency import maintenance_queries as queries
from idempotency.key_lifetime import find_ended
from idempotency.maintenance_queries import ExpiredRecord

_BEGINNING = ExpiredRecord(id=0, expires_at=datetime.min.replace(tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class Counts:
    """How many rows a purge deleted and kept."""

    deleted: int = 0
    kept: int = 0  # old enough, but still needed: for example, the record's resource has not ended

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.deleted + other.deleted, self.kept + other.kept)


def run_once(limit: int) -> Counts:
    """Delete all records that have expired by now and whose resource has ended, `limit` per transaction."""
    return sum(batches(limit), start=Counts())


def batches(limit: int) -> Iterator[Counts]:
    """Purge one batch, in one transaction, at each step.

    Records locked by a request, a redrive or another purge are left for the next run. Records that must stay are
    skipped, so they do not delay those after them.
    """
    until, after = queries.read_clock(), _BEGINNING
    while True:
        counts, last = _purge_batch(until=until, after=after, limit=limit)
        yield counts
        if last is None:
            return
        after = last


def _purge_batch(*, until: datetime, after: ExpiredRecord, limit: int) -> tuple[Counts, ExpiredRecord | None]:
    """Return the counts and the last record seen; None if no records follow it."""
    with transaction.atomic(durable=True):
        batch = queries.lock_expired_batch(until=until, after=after, limit=limit)
        # Under the locks: a redrive, which restarts a resource, locks its record first.
        ended = find_ended({record.resource for record in batch})
        purgeable = [record.id for record in batch if record.resource in ended]
        deleted = queries.delete_records(purgeable) if purgeable else 0
    return Counts(deleted, kept=len(batch) - deleted), batch[-1] if len(batch) == limit else None


def purge_lag_seconds(limit: int) -> float:
    """Return how long ago the oldest purgeable record expired; 0 if there is none among the `limit` oldest."""
    overdue = queries.overdue_records(age=timedelta(), limit=limit)
    ended = find_ended({record.resource for record in overdue})
    oldest = next((record.expires_at for record in overdue if record.resource in ended), None)
    return 0.0 if oldest is None else (queries.read_clock() - oldest).total_seconds()
