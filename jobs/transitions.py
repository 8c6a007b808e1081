"""The only writer of `job.state`: each function is one event of the table in states.py.

A function calls `apply_first_rule` (queries), which runs one statement per rule until one matches. No match is a
normal result: a stale worker gets StaleAttempt and stops; a request that the state does not allow gets IllegalTransition.
A process that dies before a statement's commit changes nothing.
"""

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from psycopg.errors import UniqueViolation

from broker.hints import DueJob
from broker.publisher import publish_hint_on_commit
from jobs.errors import DuplicateOperation, IllegalTransition, JobErased, JobNotFound, StaleAttempt
from jobs.models import Job
from jobs.payloads import describe_failure, encode_payload
from jobs.queries.claim import NextJob, claim_next, succeed_and_claim_next
from jobs.queries.rule_statement import apply_first_rule
from jobs.states import Event, State, rules_for

_ZERO = timedelta(0)
_CAUSE_MAX = 100  # characters of job.error_cause
_ONE_RUNNING = "job_one_running_per_concurrency_key"
_ONE_PER_IDENTITY = "job_one_per_identity"
# Claims by order that may meet a claim of the same concurrency key in the same instant, in a row.
_MAX_TRIES = 3


def claim_job(*, job_id: UUID, worker: str, known_operations: Collection[str]) -> Job | None:
    """Lease the job to this worker and mint its next fencing token (`job.attempt`).

    Return None if the job is not due, blocked, running or ended, or if this worker does not know its operation: a redelivered
    message is normal, not an error. Invariant: at most one attempt of a job has a live lease. The attempt is charged here, before
    any work, so that a job that always kills its worker fails after max_attempts. Locks one job row; served by job_pkey.
    A job whose deadline has passed fails here instead of waiting for the sweeper.
    """
    try:
        job = apply_first_rule(
            rules_for(Event.CLAIM),
            job_id=job_id,
            worker=worker,
            lease=timedelta(seconds=settings.LEASE_SECONDS),
            known_operations=sorted(known_operations),
        )
    except IntegrityError as error:
        # Two jobs of one concurrency key were claimed in the same instant; the unique index accepted one.
        if _violated_constraint(error) == _ONE_RUNNING:
            return None
        raise
    if job is None:
        fail_past_deadline(job_id=job_id)
    return job


def claim_next_job(wanted: NextJob) -> Job | None:
    """Lease the first due job of the queue to this worker, as `claim_job` does; None if there is none that it can claim."""
    for _ in range(_MAX_TRIES):
        try:
            return claim_next(wanted)
        except IntegrityError as error:
            # As in `claim_job`; the next look finds the job behind.
            if _violated_constraint(error) != _ONE_RUNNING:
                raise
    return None


# has_concurrency_key, below: pass False if the job is known to have none. The statement is then cheaper.


def succeed_job(*, job_id: UUID, attempt: int, result: bytes, has_concurrency_key: bool = True) -> Job:
    """Store the encoded result and end the job as succeeded. Raises IllegalTransition while an effect is open."""
    return _settle(Event.SUCCEED, job_id, attempt, has_concurrency_key, result=result)


def succeed_and_claim_next_job(
    *, job_id: UUID, attempt: int, result: bytes, wanted: NextJob
) -> tuple[Job | None, bool]:
    """Do what `succeed_job` and `claim_next_job` do, in one statement and one commit, for a job without a concurrency key.

    Return the claimed job, and whether the first one was settled; if not, `succeed_job` reports the reason. If the claim meets a
    running job of the same concurrency key in the same instant, nothing takes effect, and both results say so.
    """
    try:
        is_settled, claimed = succeed_and_claim_next(job_id=job_id, attempt=attempt, result=result, wanted=wanted)
    except IntegrityError as error:
        if _violated_constraint(error) != _ONE_RUNNING:
            raise
        return None, False
    return claimed, is_settled


def fail_job(*, job_id: UUID, attempt: int, detail: str, cause: str, has_concurrency_key: bool = True) -> Job:
    """End the job as failed; its error is `partially-done` if an effect is done. Raises IllegalTransition while one is open."""
    return _settle(Event.FAIL, job_id, attempt, has_concurrency_key, **_errors("operation-failed", detail, cause))


def retry_job(
    *, job_id: UUID, attempt: int, delay: timedelta, detail: str, cause: str, has_concurrency_key: bool = True
) -> Job:
    """End the attempt and queue the job for another one after `delay`, or end it if no attempts are left.

    Without attempts the job fails if no effect is open; else it gets one attempt that only reconciles, and then is unknown.
    A cancel request is granted here if nothing has been done.
    """
    errors = _errors("attempts-exhausted", detail, cause)
    return _settle(Event.RETRY, job_id, attempt, has_concurrency_key, delay=delay, **errors)


def postpone_job(*, job_id: UUID, attempt: int, delay: timedelta, detail: str, has_concurrency_key: bool = True) -> Job:
    """Queue the job again after `delay` without charging the attempt."""
    errors = _errors("attempts-exhausted", detail, "postponed")
    return _settle(Event.POSTPONE, job_id, attempt, has_concurrency_key, delay=delay, **errors)


def stop_as_unknown(*, job_id: UUID, attempt: int, detail: str, has_concurrency_key: bool = True) -> Job:
    """Stop the job in `unknown`: an effect began, and its outcome cannot be learned."""
    errors = _errors("outcome-unknown", detail, "outcome-unknown")
    return _settle(Event.OUTCOME_UNKNOWN, job_id, attempt, has_concurrency_key, **errors)


def stop_canceled_job(*, job_id: UUID, attempt: int, has_concurrency_key: bool = True) -> Job:
    """End the running job as canceled, as requested. Raises IllegalTransition if an effect is open or done."""
    return _settle(Event.STOP, job_id, attempt, has_concurrency_key)


def expire_job(*, job_id: UUID, attempt: int, delay: timedelta) -> Job | None:
    """End the attempt whose lease has expired and continue as after a retry. Return None if the lease was renewed.

    The UPDATE checks the lease again. If a renewal commits first, this changes nothing; if this commits first, the renewal
    matches no row.
    """
    detail = "The worker stopped renewing its lease: it was killed, cut off or frozen."
    errors = _errors("attempts-exhausted", detail, "lease-expired")
    job = apply_first_rule(rules_for(Event.EXPIRE), job_id=job_id, attempt=attempt, delay=delay, **errors)
    _publish_if_queued(job, delay)
    return job


def fail_past_deadline(*, job_id: UUID) -> Job | None:
    """Fail the queued job, whose deadline has passed. Return None if it was claimed in time or an effect is open or done."""
    detail = "The job's deadline passed before anything was done."
    errors = _errors("deadline-exceeded", detail, "deadline-exceeded")
    return apply_first_rule(rules_for(Event.DEADLINE_PASSED), job_id=job_id, **errors)


def cancel_queued_job(*, job_id: UUID, event_data: Mapping[str, str] | None = None) -> Job | None:
    """Cancel the queued job. Return None if it is not queued, or an effect is open or done."""
    return apply_first_rule(rules_for(Event.CANCEL), job_id=job_id, event_data=event_data)


def apply_redrive(*, job_id: UUID, event_data: Mapping[str, str] | None = None) -> Job:
    """Queue the failed or canceled job again with all its attempts; finished steps stay finished.

    Raises JobErased if its payload is gone, DuplicateOperation if another live job has its identity.
    """
    try:
        # A savepoint, so that the caller's transaction can still look up the duplicate.
        with transaction.atomic():
            job = apply_first_rule(
                rules_for(Event.REDRIVE), job_id=job_id, event_data=event_data, delay=_ZERO, keep_cancel_request=False
            )
    except IntegrityError as error:
        if _violated_constraint(error) == _ONE_PER_IDENTITY:
            raise DuplicateOperation(None) from error
        raise
    if job is None:
        raise _illegal(Event.REDRIVE, job_id)
    _publish_if_queued(job, _ZERO)
    return job


def apply_resolve(
    *, job_id: UUID, target: State, event_data: Mapping[str, Any], result: bytes | None, keep_cancel_request: bool
) -> Job:
    """Move the unknown job to `target` (succeeded, failed or queued) and record the verdict (`event_data`) in its history.

    keep_cancel_request: a job that is queued again keeps the cancel request that it had.
    """
    errors = _errors("operation-failed", "An operator resolved the unknown outcome as failed.", "resolved")
    values = {**errors, "event_data": event_data, "result": result}
    job = apply_first_rule(
        [rule for rule in rules_for(Event.RESOLVE) if rule.target is target],
        job_id=job_id,
        delay=_ZERO,
        keep_cancel_request=keep_cancel_request,
        **values,
    )
    if job is None:
        raise _illegal(Event.RESOLVE, job_id)
    _publish_if_queued(job, _ZERO)
    return job


def _settle(event: Event, job_id: UUID, attempt: int, has_concurrency_key: bool, **values: Any) -> Job:  # noqa: ANN401, FBT001
    """Apply the event under the attempt's fence. Raises StaleAttempt if it is stale, else IllegalTransition.

    At most one rule of an event matches. A cancel request that arrives between two statements is applied by the next attempt.
    """
    job = apply_first_rule(
        rules_for(event), job_id=job_id, attempt=attempt, has_concurrency_key=has_concurrency_key, **values
    )
    if job is not None:
        _publish_if_queued(job, values.get("delay", _ZERO))
        return job
    if Job.objects.filter(pk=job_id, attempt=attempt, state=State.RUNNING).exists():
        raise _illegal(event, job_id)
    raise StaleAttempt(job_id, attempt)


def _errors(code: str, detail: str, cause: str) -> dict[str, Any]:
    """Return the errors that the rules may write to the job and the attempt, and the event's data."""
    partly = f"{detail} Part of the work had taken effect: see the job's effects. A redrive continues from its finished steps."
    unknown = detail if code == "outcome-unknown" else f"{detail} An effect had begun; its outcome is not known."
    document = describe_failure(code, detail, cause=cause)
    return {
        "error": encode_payload(document),
        "partial_error": encode_payload(describe_failure("partially-done", partly, cause=cause)),
        "unknown_error": encode_payload(describe_failure("outcome-unknown", unknown, cause=cause)),
        "attempt_error": encode_payload(document),
        "error_code": code,
        "error_cause": document["cause"][:_CAUSE_MAX],
        "event_data": {"cause": document["cause"], "detail": document["detail"]},
    }


def _publish_if_queued(job: Job | None, delay: timedelta) -> None:
    """Publish a hint of the job when it is due, if that is before a sweep finds it and nothing blocks it."""
    seconds = delay.total_seconds()
    if job is not None and job.state == State.QUEUED and not job.held and seconds <= settings.SWEEP_SECONDS:
        publish_hint_on_commit(DueJob(job.id, job.queue, seconds))


def _illegal(event: Event, job_id: UUID) -> JobNotFound | JobErased | IllegalTransition:
    job = Job.objects.only("state", "erased_at").filter(pk=job_id).first()
    if job is None:
        return JobNotFound()
    if job.erased_at is not None:
        return JobErased(job.resource)
    return IllegalTransition(job_id, event, State(job.state))


def _violated_constraint(error: IntegrityError) -> str | None:
    cause = error.__cause__
    return cause.diag.constraint_name if isinstance(cause, UniqueViolation) else None
