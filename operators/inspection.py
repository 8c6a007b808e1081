"""What an operator can ask about jobs, whosever they are. Nothing here counts a table or skips over rows.

For the admin alone: what a tenant may ask is in selectors.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils import timezone

from accounts.models import Mode, Tenant
from accounts.scopes import parse_scope, scope_column
from idempotency.models import IdempotencyRecord
from idempotency.request_headers import is_key
from jobs.ids import parse_job_resource
from jobs.keyset import Page, page_by_id
from jobs.models import Job, JobAttempt, JobEvent, JobStep
from jobs.selectors import JobFilter, filter_jobs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from uuid import UUID


# Rows of a job's page: what a person can read. A job that is put off again and again has more.
ATTEMPTS_SHOWN = 200
EVENTS_SHOWN = 500


@dataclass(frozen=True)
class Examined:
    """A job and all that is known of it, in the order in which it happened."""

    job: Job
    attempts: list[JobAttempt]
    steps: list[JobStep]
    events: list[JobEvent]
    record: IdempotencyRecord | None
    now: datetime


def page_of_jobs(
    *, job_filter: JobFilter, limit: int, older_than: UUID | None = None, newer_than: UUID | None = None
) -> Page[Job]:
    """Up to `limit` of the filter's jobs beside that one, newest first; the newest of all without one. Two statements.

    Served by job_pkey backwards, or where the state is rare by job_in_trouble, job_running or job_queued_by_queue.
    """
    jobs = filter_jobs(job_filter).defer("params", "result", "error", "metadata").prefetch_related("tenant")
    return page_by_id(jobs, limit=limit, older_than=older_than, newer_than=newer_than)


def examine_job(job_id: UUID) -> Examined | None:
    """The job and its history; None where there is none. Seven statements, each by a primary key."""
    job = Job.objects.filter(pk=job_id).prefetch_related("tenant").first()
    if job is None:
        return None
    attempts = JobAttempt.objects.filter(job_id=job_id).order_by("-number")[:ATTEMPTS_SHOWN]
    events = JobEvent.objects.filter(job_id=job_id).order_by("-seq")[:EVENTS_SHOWN]
    return Examined(
        job=job,
        attempts=list(attempts)[::-1],
        steps=list(JobStep.objects.filter(job_id=job_id).order_by("first_started_at")),
        events=list(events)[::-1],
        record=record_of(job),
        now=timezone.now(),
    )


def record_of(job: Job) -> IdempotencyRecord | None:
    """What is remembered of the job's key, without its stored answer; None where there is none (any more). By its primary key."""
    if job.idempotency_record_id is None:
        return None
    records = IdempotencyRecord.objects.defer("headers", "body", "members", "fingerprint")
    return records.filter(pk=job.idempotency_record_id).first()


def steps_in_doubt(job_id: UUID) -> list[JobStep]:
    """The effects of the job whose outcome is not known, in the order in which they began. By the table's primary key."""
    return list(
        JobStep.objects.filter(job_id=job_id, state=JobStep.State.STARTED).order_by("first_started_at")
    )


@dataclass(frozen=True)
class FoundKey:
    """What is remembered of a key: whose it is, and the job that it stands for, if any."""

    record: IdempotencyRecord
    tenant_name: str
    mode: str
    job: Job | None


def records_of(key: str, *, limit: int) -> list[FoundKey]:
    """What each tenant and mode has under exactly this key, without stored answers, the newest first.

    A statement for each mode, which looks up each tenant's entry of idempotency_record_scope_key, and two for what was found.
    """
    if not is_key(key):
        return []
    found: list[tuple[IdempotencyRecord, str]] = []
    for mode in Mode.values:
        scopes = Tenant.objects.annotate(scope=scope_column(mode)).values("scope")
        records = IdempotencyRecord.objects.filter(key=key, scope__in=scopes)
        found += [
            (record, mode)
            for record in records.defer("headers", "body", "members", "fingerprint").order_by("-id")[:limit]
        ]
    tenants = Tenant.objects.in_bulk([parse_scope(record.scope)[0] for record, _ in found])
    jobs = {job.resource: job for job in jobs_by_resource([record.resource for record, _ in found])}
    return [
        FoundKey(record, tenants[parse_scope(record.scope)[0]].name, mode, jobs.get(record.resource or ""))
        for record, mode in sorted(found, key=lambda one: one[0].id, reverse=True)
    ]


def jobs_by_resource(resources: Iterable[str | None]) -> list[Job]:
    """Return the jobs that idempotency records name. Rows by job_pkey."""
    ids = [job_id for name in resources if (job_id := parse_job_resource(name)) is not None]
    return list(Job.objects.filter(pk__in=ids).defer("params", "result", "error", "metadata")) if ids else []
