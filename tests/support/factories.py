"""Rows for tests, made the way the product makes them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import factory
from django.db import connection

from accounts.models import Tenant
from accounts.services import create_api_key
from jobs import transitions
from jobs.models import Job
from jobs.registry import current_operation, known_operations
from jobs.submission import Submission, submit_job

if TYPE_CHECKING:
    from uuid import UUID


class TenantFactory(factory.django.DjangoModelFactory):
    """A tenant with a name of its own."""

    class Meta:
        model = Tenant

    name = factory.Sequence(lambda number: f"tenant-{number}")


def new_api_key(tenant: Tenant, *, mode: str = "test", **options: Any) -> str:
    """An API key of the tenant, as a client would hold it."""
    return str(create_api_key(tenant=tenant, mode=mode, **options))


def queued_job(tenant: Tenant, *, script: str = "none", mode: str = "test", **asked: Any) -> Job:
    """A job that waits for a worker. `asked`: what else the client asks for."""
    submission = Submission(operation=current_operation("test.scripted"), params={"script": script}, **asked)
    return submit_job(tenant_id=tenant.id, mode=mode, submission=submission)


def claimed_job(tenant: Tenant, **options: Any) -> Job:
    """A job that an attempt holds; nobody performs it."""
    return claim(queued_job(tenant, **options).id)


def claim(job_id: UUID, *, worker: str = "a-worker") -> Job:
    """The job, claimed. Fails the test where it cannot be."""
    job = transitions.claim_job(job_id=job_id, worker=worker, known_operations=known_operations())
    assert job is not None, "the job could not be claimed"
    return job


def backdate(job_id: UUID, **columns: timedelta) -> Job:
    """The job with these instants moved into the past: how tests let time pass."""
    assignments = ", ".join(f"{name} = {name} - %({name})s" for name in columns)
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE job SET {assignments} WHERE id = %(id)s", {**columns, "id": job_id})
    return Job.objects.get(pk=job_id)


def make_due(job_id: UUID) -> Job:
    """The queued job's next attempt and publication are due now."""
    return backdate(job_id, run_at=timedelta(hours=1), next_publish_at=timedelta(hours=1))


def end_lease(job_id: UUID) -> Job:
    """The running job's lease is over."""
    return backdate(job_id, lease_expires_at=timedelta(hours=1))
