"""Create jobs together with their idempotency records."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db.models import F
from django.utils import timezone

from accounts.scopes import format_scope
from idempotency.models import IdempotencyRecord
from jobs import transitions
from jobs.models import Job
from jobs.registry import current_operation
from jobs.submission import Submission, submit_job
from tests.support.factories import backdate, claim

if TYPE_CHECKING:
    from accounts.models import Tenant

# A little longer than a job or a key is kept.
LONG_AGO = timedelta(days=30, minutes=1)


def keyed_job(tenant: Tenant, key: str) -> Job:
    """Create a queued job and its unexpired record."""
    submission = Submission(operation=current_operation("test.scripted"), params={"script": "none"})
    job = submit_job(tenant_id=tenant.id, mode="test", submission=submission, idempotency_key=key)
    job.idempotency_record_id = write_record(job).id
    Job.objects.filter(pk=job.id).update(idempotency_record_id=job.idempotency_record_id)
    return job


def write_record(job: Job) -> IdempotencyRecord:
    """Create the unexpired record of the job's key, with an answer."""
    return IdempotencyRecord.objects.create(
        scope=format_scope(tenant_id=job.tenant_id, mode=job.mode),
        key=job.idempotency_key,
        fingerprint=b"of a request",
        fingerprint_version=1,
        fingerprint_kid="k1",
        method="POST",
        path="/v1/jobs",
        status=202,
        response=b"\x00[]\n",
        resource=job.resource,
        expires_at=timezone.now() + timedelta(days=1),
    )


def failed_long_ago(job: Job) -> Job:
    """Let the queued job fail, so long ago that its retention is over."""
    claimed = claim(job.id)
    transitions.fail_job(job_id=job.id, attempt=claimed.attempt, detail="no", cause="no")
    return backdate(job.id, finished_at=LONG_AGO)


def expire_key(job: Job) -> None:
    """Backdate the job's key, so that it has expired."""
    IdempotencyRecord.objects.filter(pk=job.idempotency_record_id).update(
        created_at=F("created_at") - LONG_AGO, expires_at=F("expires_at") - LONG_AGO
    )
