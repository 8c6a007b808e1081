"""Delete jobs that ended before the retention period, unless an idempotency key still refers to them; and old bulk actions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from django.conf import settings
from django.db import transaction

from idempotency.maintenance_queries import read_resources
from idempotency.record_purge import Counts
from jobs.ids import job_resource
from jobs.models import BulkAction
from jobs.queries.artifacts import discard_artifacts
from jobs.queries.purge import FIRST_ENDED, delete_jobs, lock_ended_batch, time_ago

if TYPE_CHECKING:
    from jobs.queries.purge import EndedJob


def run_once(limit: int) -> Counts:
    """Delete all jobs past retention, `limit` per transaction, except those that their key still refers to."""
    return sum(batches(limit), start=Counts())


def batches(limit: int) -> Iterator[Counts]:
    """Delete jobs that have been succeeded, failed or canceled for JOB_RETENTION_SECONDS, one batch per transaction.

    Also deletes their attempts, steps and events, and turns their artifacts into orphaned files. Jobs in `unknown` have not ended
    and stay. A job stays while its own idempotency record exists, so that a replayed response never refers to a deleted job.
    Skips jobs that a redrive or another purge has locked. Jobs that stay do not delay those behind them.
    """
    until, after = time_ago(timedelta(seconds=settings.JOB_RETENTION_SECONDS)), FIRST_ENDED
    while True:
        counts, last = _purge_batch(until=until, after=after, limit=limit)
        yield counts
        if last is None:
            return
        after = last


def bulk_action_batches(limit: int) -> Iterator[int]:
    """Delete bulk actions that finished AUDIT_RETENTION_SECONDS ago; yield the count of each batch.

    They are few, and read without an index. Two purges at once delete each row once.
    """
    until = time_ago(timedelta(seconds=settings.AUDIT_RETENTION_SECONDS))
    finished = BulkAction.objects.filter(finished_at__lte=until)
    deleted = limit
    while deleted == limit:
        batch = finished.order_by("pk").values_list("pk", flat=True)[:limit]
        deleted = finished.filter(pk__in=list(batch)).delete()[0]
        yield deleted


def _purge_batch(*, until: datetime, after: EndedJob, limit: int) -> tuple[Counts, EndedJob | None]:
    """Return the counts and the last job of the batch; None when there are no more.

    Reads the records without a lock, because the lock order is record, then job: a redrive that has locked the record may
    wait for
    the job, but this transaction must not wait for a record. A locked record is still visible. Only a redrive or a resolve
    can create
    a missing record again. It must write the job's row, which is locked here, so it waits and then finds no job.
    """
    with transaction.atomic(durable=True):
        batch = lock_ended_batch(until=until, after=after, limit=limit)
        unreferred = _unreferred(batch)
        if unreferred:
            discard_artifacts(unreferred)
        deleted = delete_jobs(unreferred) if unreferred else 0
    return Counts(deleted, kept=len(batch) - deleted), batch[-1] if len(batch) == limit else None


def _unreferred(batch: Sequence[EndedJob]) -> list[UUID]:
    record_ids = [job.idempotency_record_id for job in batch if job.idempotency_record_id is not None]
    resources = read_resources(record_ids) if record_ids else {}
    return [
        job.id
        for job in batch
        if job.idempotency_record_id is None or resources.get(job.idempotency_record_id) != job_resource(job.id)
    ]
