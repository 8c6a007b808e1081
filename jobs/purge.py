"""Storage is bounded: jobs that ended long ago are deleted, once no idempotency key stands for them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction

from idempotency.maintenance_queries import read_resources
from idempotency.record_purge import Counts
from jobs.ids import job_resource
from jobs.models import BulkAction
from jobs.queries.artifacts import discard_artifacts
from jobs.queries.purge import FIRST_ENDED, delete_jobs, lock_ended_batch, time_ago

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from uuid import UUID

    from jobs.queries.purge import EndedJob


def run_once(limit: int) -> Counts:
    """Every job past its retention is gone, `limit` a transaction, but for those that its key still stands for."""
    return sum(batches(limit), start=Counts())


def batches(limit: int) -> Iterator[Counts]:
    """Delete the jobs that had succeeded, failed or been canceled for JOB_RETENTION_SECONDS by now, a batch a step.

    With a job go its attempts, steps and events, in one commit, and its artifacts become stray files (jobs/orphaned_files.py);
    `unknown` has not ended and stays. A job whose idempotency record exists and is its own stays: so an answer that can
    be replayed never points to a job that is gone.
    Jobs locked by a redrive or another purge are left for the next time. Those that must stay are passed by, so any
    number of them holds up nobody behind them.
    """
    until, after = time_ago(timedelta(seconds=settings.JOB_RETENTION_SECONDS)), FIRST_ENDED
    while True:
        counts, last = _purge_batch(until=until, after=after, limit=limit)
        yield counts
        if last is None:
            return
        after = last


def notices(limit: int) -> Iterator[int]:
    """Delete the bulk actions that are over since AUDIT_RETENTION_SECONDS, a batch a step; yields how many.

    They are few, and read without an index. Two purges at once delete each row once.
    """
    until = time_ago(timedelta(seconds=settings.AUDIT_RETENTION_SECONDS))
    over = BulkAction.objects.filter(finished_at__lte=until)
    deleted = limit
    while deleted == limit:
        batch = over.order_by("pk").values_list("pk", flat=True)[:limit]
        deleted = over.filter(pk__in=list(batch)).delete()[0]
        yield deleted


def _purge_batch(*, until: datetime, after: EndedJob, limit: int) -> tuple[Counts, EndedJob | None]:
    """Return what was done, and the last job seen; None when there are no more behind it.

    Records are read and not locked, so that the order of locks (record, then job) is kept by everybody: a redrive that
    holds the record may wait for the job, and nobody waits the other way. A record of the job's that exists is read as
    such, whoever holds it. One that does not exist can be made again by a redrive or a resolve alone, which must write the
    job's row, held here: it waits, and finds no job.
    """
    with transaction.atomic(durable=True):
        batch = lock_ended_batch(until=until, after=after, limit=limit)
        gone = _unreferred(batch)
        if gone:
            discard_artifacts(gone)
        deleted = delete_jobs(gone) if gone else 0
    return Counts(deleted, kept=len(batch) - deleted), batch[-1] if len(batch) == limit else None


def _unreferred(batch: Sequence[EndedJob]) -> list[UUID]:
    record_ids = [job.idempotency_record_id for job in batch if job.idempotency_record_id is not None]
    resources = read_resources(record_ids) if record_ids else {}
    return [
        job.id
        for job in batch
        if job.idempotency_record_id is None
        or resources.get(job.idempotency_record_id) != job_resource(job.id)
    ]
