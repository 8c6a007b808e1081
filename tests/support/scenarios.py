"""Create jobs in any situation: bring them to a state by transitions, and satisfy guards by writing columns."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import IntegrityError, connection, transaction

from jobs import transitions
from jobs.models import Job, JobAttempt, JobEvent, JobStep, Pause
from jobs.payloads import describe_failure, encode_payload
from jobs.queries.steps import begin_effect, close_effect
from jobs.services import cancel_job
from jobs.states import Guard, State
from tests.support.factories import backdate, claim, claimed_job, queued_job

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from accounts.models import Tenant

HOUR = timedelta(hours=1)
ZERO = timedelta(0)

# Assignments that make each guard hold, and that make it fail.
WITH = {
    Guard.DUE: "run_at = clock_timestamp() - interval '1 hour'",
    Guard.ATTEMPTS_LEFT: "attempts_left = 2",
    Guard.NO_ATTEMPTS_LEFT: "attempts_left = 0",
    Guard.DEADLINE_NOT_PASSED: "deadline_at = clock_timestamp() + interval '1 hour'",
    Guard.DEADLINE_PASSED: "deadline_at = clock_timestamp() - interval '1 hour'",
    Guard.NOT_BLOCKED: "concurrency_key = 'free', accept_seq = 1",
    Guard.NOT_PAUSED: "operation = 'test.scripted'",
    Guard.LEASE_EXPIRED: "lease_expires_at = clock_timestamp() - interval '1 second'",
    Guard.NO_OPEN_EFFECTS: "open_effects = 0",
    Guard.OPEN_EFFECTS: "open_effects = 1",
    Guard.NO_DONE_EFFECTS: "done_effects = 0",
    Guard.CANCEL_REQUESTED: "cancel_requested_at = clock_timestamp()",
    Guard.NOT_RECONCILE_ONLY: "reconcile_only = FALSE",
    Guard.NOT_ERASED: "erased_at = NULL",
}
WITHOUT = {
    Guard.DUE: "run_at = clock_timestamp() + interval '1 hour'",
    Guard.ATTEMPTS_LEFT: WITH[Guard.NO_ATTEMPTS_LEFT],
    Guard.NO_ATTEMPTS_LEFT: WITH[Guard.ATTEMPTS_LEFT],
    Guard.DEADLINE_NOT_PASSED: WITH[Guard.DEADLINE_PASSED],
    Guard.DEADLINE_PASSED: WITH[Guard.DEADLINE_NOT_PASSED],
    Guard.NOT_BLOCKED: "concurrency_key = 'taken', accept_seq = 2",
    Guard.NOT_PAUSED: "operation = 'test.anything'",
    Guard.LEASE_EXPIRED: "lease_expires_at = clock_timestamp() + interval '1 hour'",
    Guard.NO_OPEN_EFFECTS: WITH[Guard.OPEN_EFFECTS],
    Guard.OPEN_EFFECTS: WITH[Guard.NO_OPEN_EFFECTS],
    Guard.NO_DONE_EFFECTS: "done_effects = 1",
    Guard.CANCEL_REQUESTED: "cancel_requested_at = NULL",
    Guard.NOT_RECONCILE_ONLY: "reconcile_only = TRUE",
    Guard.NOT_ERASED: "erased_at = clock_timestamp()",
}


def write(job_id: UUID, *assignments: str) -> Job:
    """Apply the assignments (SQL) and return the job. Raises IntegrityError if a constraint forbids them."""
    if assignments:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"UPDATE job SET {', '.join(assignments)} WHERE id = %s", [job_id])
    return Job.objects.get(pk=job_id)


def write_what_fits(job_id: UUID, *assignments: str) -> Job:
    """Apply each assignment that the constraints allow, and return the job."""
    for assignment in assignments:
        try:
            write(job_id, assignment)
        except IntegrityError:
            continue
    return Job.objects.get(pk=job_id)


def running(tenant: Tenant) -> Job:
    """Return a job whose second attempt is running, so that it has an earlier attempt."""
    first = claimed_job(tenant)
    transitions.postpone_job(job_id=first.id, attempt=first.attempt, delay=-HOUR, detail="again")
    return claim(first.id)


def in_state(tenant: Tenant, state: State) -> Job:
    """Return a job that reached this state by transitions."""
    if state is State.QUEUED:
        return queued_job(tenant)
    if state is State.CANCELED:
        return cancel_job(tenant_id=tenant.id, mode="test", job_id=queued_job(tenant).id)
    job = running(tenant)
    held = {"job_id": job.id, "attempt": job.attempt}
    if state is State.SUCCEEDED:
        return transitions.succeed_job(**held, result=encode_payload("first"))
    if state is State.FAILED:
        return transitions.fail_job(**held, detail="no", cause="no")
    if state is State.UNKNOWN:
        begin(job, "charge")
        return transitions.stop_as_unknown(**held, detail="who knows")
    return job


def begin(job: Job, name: str) -> str:
    """Begin the effect for the job's attempt and return its downstream key."""
    begun = begin_effect(
        job_id=job.id,
        attempt=job.attempt,
        name=name,
        key=f"semel-{job.id}-{name}-1",
        lease=timedelta(seconds=45),
        attempt_limit=HOUR,
    )
    assert begun is not None
    return begun.key


def close(job: Job, name: str, state: JobStep.State, result: object = None) -> None:
    """Close the effect for the job's attempt."""
    encoded = encode_payload(result) if state == JobStep.State.DONE else None
    assert close_effect(job_id=job.id, attempt=job.attempt, name=name, state=state, result=encoded)


def age_step(job_id: UUID, name: str, age: timedelta) -> None:
    """Move all starts of the step into the past."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE job_step SET first_started_at = first_started_at - %(age)s, last_started_at = last_started_at - %(age)s"
            " WHERE job_id = %(id)s AND name = %(name)s",
            {"age": age, "id": job_id, "name": name},
        )


def blocker(tenant: Tenant) -> Job:
    """Run a job under the concurrency key of WITHOUT[NOT_BLOCKED], and pause the operation of WITHOUT[NOT_PAUSED]."""
    Pause.objects.create(operation="test.anything", by="user ada", note="a test")
    job = claimed_job(tenant)
    return write(job.id, "concurrency_key = 'taken', accept_seq = 1")


def errors() -> dict[str, bytes | str]:
    """Return a different document for each error that a rule may write, with code and cause of the first."""
    return {
        "error": encode_payload(describe_failure("operation-failed", "whole")),
        "partial_error": encode_payload(describe_failure("partially-done", "partly")),
        "unknown_error": encode_payload(describe_failure("outcome-unknown", "unknown")),
        "attempt_error": encode_payload(describe_failure("operation-failed", "attempt")),
        "error_code": "operation-failed",
        "error_cause": "whole",
    }


def everything(job_id: UUID) -> dict[str, list[dict[str, object]]]:
    """Return all rows of the job."""
    tables = {"job": Job.objects.filter(pk=job_id)} | {
        model.__name__: model.objects.filter(job_id=job_id).order_by("pk") for model in (JobAttempt, JobStep, JobEvent)
    }
    return {
        name: [
            {key: bytes(value) if isinstance(value, memoryview) else value for key, value in row.items()}
            for row in rows.values()
        ]
        for name, rows in tables.items()
    }


def publications(callbacks: Sequence[Callable[[], object]]) -> list[Callable[[], object]]:
    """Return the transaction's callbacks that publish a hint."""
    return [one for one in callbacks if one.__qualname__.startswith("publish_hint_on_commit.")]


def history(job_id: UUID) -> list[str]:
    """Return the names of the job's events. Fails if their numbers have a gap or do not end at event_seq."""
    events = list(JobEvent.objects.filter(job_id=job_id).order_by("seq").values_list("seq", "type"))
    count = Job.objects.values_list("event_seq", flat=True).get(pk=job_id)
    assert [seq for seq, _ in events] == list(range(1, count + 1))
    return [name for _, name in events]


def outcomes(job_id: UUID) -> list[str | None]:
    """Return the outcomes of the attempts in order. Fails if their numbers have a gap."""
    attempts = list(JobAttempt.objects.filter(job_id=job_id).order_by("number").values_list("number", "outcome"))
    fence = Job.objects.values_list("attempt", flat=True).get(pk=job_id)
    assert [number for number, _ in attempts] == list(range(1, fence + 1))
    return [outcome for _, outcome in attempts]


def expire(job: Job, *, delay: timedelta = ZERO) -> Job:
    """Expire the lease of the running job and return the job."""
    backdate(job.id, lease_expires_at=HOUR)
    expired = transitions.expire_job(job_id=job.id, attempt=job.attempt, delay=delay)
    assert expired is not None
    return expired
