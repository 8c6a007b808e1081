"""A job of any tenant with its history, for operators. Reads are by primary key and bounded."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.utils import timezone

from idempotency.models import IdempotencyRecord
from jobs.models import Job, JobAttempt, JobEvent, JobStep

# Rows on a job's page: what an operator can read. A job that is postponed many times has more.
MAX_ATTEMPTS, MAX_EVENTS = 200, 500


@dataclass(frozen=True)
class JobDetail:
    """A job and its history, each part in the order in which it happened."""

    job: Job
    attempts: list[JobAttempt]
    steps: list[JobStep]
    events: list[JobEvent]
    record: IdempotencyRecord | None
    now: datetime


def load_job_detail(job_id: UUID) -> JobDetail | None:
    """Return the job with its history; None if there is no such job. Six statements, each by a primary key."""
    job = Job.objects.filter(pk=job_id).prefetch_related("tenant").first()
    if job is None:
        return None
    attempts = JobAttempt.objects.filter(job_id=job_id).order_by("-number")[:MAX_ATTEMPTS]
    events = JobEvent.objects.filter(job_id=job_id).order_by("-seq")[:MAX_EVENTS]
    return JobDetail(
        job=job,
        attempts=list(attempts)[::-1],
        steps=list(JobStep.objects.filter(job_id=job_id).order_by("first_started_at")),
        events=list(events)[::-1],
        record=get_record(job),
        now=timezone.now(),
    )


def get_record(job: Job) -> IdempotencyRecord | None:
    """Return the job's idempotency record without its stored response; None if there is none any more. By primary key."""
    if job.idempotency_record_id is None:
        return None
    records = IdempotencyRecord.objects.defer("response", "members", "fingerprint")
    return records.filter(pk=job.idempotency_record_id).first()


def open_effects(job_id: UUID) -> list[JobStep]:
    """Return the job's effects with an unknown outcome, in the order in which they started. By primary key."""
    started = JobStep.objects.filter(job_id=job_id, state=JobStep.State.STARTED)
    return list(started.order_by("first_started_at"))
