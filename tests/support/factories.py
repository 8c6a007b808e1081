"""Create rows for tests with the functions of the product."""

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
    """Create an API key of the tenant and return it as a client sends it."""
    return str(create_api_key(tenant=tenant, mode=mode, **options))


def queued_job(tenant: Tenant, *, script: str = "none", mode: str = "test", **fields: Any) -> Job:
    """Create a queued job. `fields` are more fields of the submission."""
    submission = Submission(operation=current_operation("test.scripted"), params={"script": script}, **fields)
    return submit_job(tenant_id=tenant.id, mode=mode, submission=submission)


def claimed_job(tenant: Tenant, **options: Any) -> Job:
    """Create a running job whose operation is not performed."""
    return claim(queued_job(tenant, **options).id)


def claim(job_id: UUID, *, worker: str = "a-worker") -> Job:
    """Claim the job and return it. Fail the test if it cannot be claimed."""
    job = transitions.claim_job(job_id=job_id, worker=worker, known_operations=known_operations())
    assert job is not None, "the job could not be claimed"
    return job


def backdate(job_id: UUID, **columns: timedelta) -> Job:
    """Move these instants of the job into the past, and return the job. Tests use this instead of waiting."""
    assignments = ", ".join(f"{name} = {name} - %({name})s" for name in columns)
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE job SET {assignments} WHERE id = %(id)s", {**columns, "id": job_id})
    return Job.objects.get(pk=job_id)


def make_due(job_id: UUID) -> Job:
    """Make the next attempt of the queued job due now."""
    return backdate(job_id, run_at=timedelta(hours=1))


def end_lease(job_id: UUID) -> Job:
    """Make the lease of the running job expire."""
    return backdate(job_id, lease_expires_at=timedelta(hours=1))
