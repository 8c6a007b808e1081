"""The only writer of `job.state`: each function is one event of the table in states.py.

Zero rows is an answer, not an accident: a worker whose fence has passed gets StaleAttempt and stops; a request that the
state does not allow gets IllegalTransition. Dying before a statement's commit leaves all as it was; after it, all is done.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import IntegrityError, transaction
from psycopg.errors import UniqueViolation

from broker.hints import DueJob, publish_hint_on_commit
from jobs.errors import DuplicateOperation, IllegalTransition, JobErased, JobNotFound, StaleAttempt
from jobs.failures import describe_failure
from jobs.models import Job
from jobs.payloads import encode_payload
from jobs.queries.transition import apply_rule, next_in_line
from jobs.states import Event, Rule, State, rules_for

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from uuid import UUID

_NOW = timedelta(0)
_CAUSE_MAX = 100  # characters, as the column has it
_ONE_RUNNING = "job_one_running_per_concurrency_key"
_ONE_PER_IDENTITY = "job_one_per_identity"


def claim_job(*, job_id: UUID, worker: str, known_operations: Collection[str]) -> Job | None:
    """Lease the job to this worker and mint its next fencing token (`job.attempt`).

    None when it is not due, blocked, held, ended or of an operation that this worker does not know: a redelivered message
    is normal, not an error. Invariant: at most one attempt of a job has a live lease. An attempt is charged here, before
    any work, so that a job that kills its worker is bounded. Locks one job row; served by job_pkey.
    A job that is found too late for its deadline fails here, and need not wait for the sweeper.
    """
    lease = timedelta(seconds=settings.LEASE_SECONDS)
    known = sorted(known_operations)
    try:
        job = _apply(Event.CLAIM, job_id, worker=worker, lease=lease, known_operations=known)
    except IntegrityError as error:
        # Two jobs of one concurrency key, claimed in the same instant: the partial unique index let one through.
        if _broken_constraint(error) == _ONE_RUNNING:
            return None
        raise
    if job is None:
        lapse_job(job_id=job_id)
    return job


def succeed_job(*, job_id: UUID, attempt: int, result: bytes, in_line: bool = True) -> Job:
    """The job has succeeded with this (encoded) result. IllegalTransition while an effect is open.

    in_line: False where the caller knows that the job has no concurrency key, which makes the statement cheaper.
    """
    return _settle(Event.SUCCEED, job_id, attempt, result=result, attempt_error=None, in_line=in_line)


def fail_job(*, job_id: UUID, attempt: int, detail: str, cause: str) -> Job:
    """The job has failed for good; with a done effect its error is `partially-done`. IllegalTransition while one is open."""
    return _settle(Event.FAIL, job_id, attempt, **_errors("operation-failed", detail, cause))


def retry_job(*, job_id: UUID, attempt: int, delay: timedelta, detail: str, cause: str) -> Job:
    """The attempt is over; the job is queued for another one after `delay`, or has come to the end of its attempts.

    That end: failed where nothing is open; else one more attempt that only reconciles; after that, unknown. A wish to
    cancel is granted here where nothing has been done.
    """
    return _settle(Event.RETRY, job_id, attempt, delay=delay, **_errors("attempts-exhausted", detail, cause))


def postpone_job(*, job_id: UUID, attempt: int, delay: timedelta, detail: str) -> Job:
    """The job is queued again after `delay`, and the attempt costs it nothing."""
    return _settle(
        Event.POSTPONE, job_id, attempt, delay=delay, **_errors("attempts-exhausted", detail, "postponed")
    )


def doubt_job(*, job_id: UUID, attempt: int, detail: str) -> Job:
    """The job stops in `unknown`: an effect began, and its outcome cannot be learnt."""
    return _settle(Event.DOUBT, job_id, attempt, **_errors("outcome-unknown", detail, "outcome-unknown"))


def end_canceled_job(*, job_id: UUID, attempt: int) -> Job:
    """The running job is canceled as was asked. IllegalTransition where an effect has begun or is done."""
    return _settle(Event.CANCELED, job_id, attempt, attempt_error=None)


def expire_job(*, job_id: UUID, attempt: int, delay: timedelta) -> Job | None:
    """The attempt's lease is over, and it may write no more; the job goes on as after a retry. None if it was renewed.

    The condition is repeated in the UPDATE itself, so that a renewal in the same instant wins or loses whole.
    """
    detail = "The worker stopped renewing its lease: it was killed, cut off or frozen."
    errors = _errors("attempts-exhausted", detail, "lease-expired")
    return _apply(Event.EXPIRE, job_id, attempt=attempt, delay=delay, grace=_NOW, **errors)


def lapse_job(*, job_id: UUID) -> Job | None:
    """The queued job has failed by its deadline. None where it was claimed in time, or something was done or begun."""
    detail = "The job's deadline passed before anything was done."
    return _apply(Event.LAPSE, job_id, **_errors("deadline-exceeded", detail, "deadline-exceeded"))


def cancel_queued_job(*, job_id: UUID, said: Mapping[str, str] | None = None) -> Job | None:
    """The queued job is canceled. None where it is not queued, or something has been done to the world."""
    return _apply(Event.CANCEL, job_id, said=said or {})


def redrive_job(*, job_id: UUID, said: Mapping[str, str] | None = None) -> Job:
    """The failed or canceled job is queued again with all its attempts; finished steps stay finished.

    Raises JobErased where its payload is gone, DuplicateOperation where another live job has its identity.
    """
    try:
        # A savepoint, so that the caller's transaction can go on to say why.
        with transaction.atomic():
            job = _apply(
                Event.REDRIVE,
                job_id,
                delay=_NOW,
                grace=_publish_grace(),
                said=said or {},
                keep_cancel_request=False,
            )
    except IntegrityError as error:
        if _broken_constraint(error) == _ONE_PER_IDENTITY:
            raise DuplicateOperation(None) from error
        raise
    if job is None:
        raise _illegal(Event.REDRIVE, job_id)
    announce_due(job)
    return job


def resolve_job(
    *, job_id: UUID, target: State, said: Mapping[str, Any], result: bytes | None, keep_cancel_request: bool
) -> Job:
    """The unknown job goes where somebody's word (`said`, kept in its history) sends it: succeeded, failed or queued.

    keep_cancel_request: queued, it goes on with the wish to cancel that it had.
    """
    rule = next(rule for rule in rules_for(Event.RESOLVE) if rule.target is target)
    errors = _errors("operation-failed", "An operator resolved the unknown outcome as failed.", "resolved")
    values = {**errors, "delay": _NOW, "grace": _publish_grace(), "result": result, "said": said}
    job = _apply_rule(rule, job_id, keep_cancel_request=keep_cancel_request, **values)
    if job is None:
        raise _illegal(Event.RESOLVE, job_id)
    if target is State.QUEUED:
        announce_due(job)
    return job


def announce_due(job: Job) -> None:
    """Publish a hint of the job after this transaction's commit."""
    publish_hint_on_commit(DueJob(job.id, job.queue))


def _broken_constraint(error: IntegrityError) -> str | None:
    cause = error.__cause__
    return cause.diag.constraint_name if isinstance(cause, UniqueViolation) else None


def _settle(event: Event, job_id: UUID, attempt: int, **values: Any) -> Job:  # noqa: ANN401 - statement parameters
    job = _apply(event, job_id, attempt=attempt, grace=_NOW, **values)
    if job is not None:
        return job
    if Job.objects.filter(pk=job_id, attempt=attempt, state=State.RUNNING).exists():
        raise _illegal(event, job_id)
    raise StaleAttempt(job_id, attempt)


def _apply(event: Event, job_id: UUID, **values: Any) -> Job | None:  # noqa: ANN401
    """The job after the first of the event's rules whose guards hold; None where none does.

    The rules of an event exclude one another, but for a cancel request that comes in between: the next attempt sees it.
    """
    applied = (_apply_rule(rule, job_id, **values) for rule in rules_for(event))
    return next((job for job in applied if job is not None), None)


def _apply_rule(rule: Rule, job_id: UUID, **values: Any) -> Job | None:  # noqa: ANN401
    """`said`, where it is given, is what the history tells of the event.

    The next of the job's concurrency key, if its turn has come, is announced. Dying before that leaves it to the sweeper:
    its `next_publish_at` is written in the same statement.
    """
    values = {**values, "data": json.dumps(dict(values.pop("said", {}))), "publish_grace": _publish_grace()}
    job = apply_rule(rule, job_id=job_id, **values)
    following = next_in_line(job) if job is not None else None
    if following is not None:
        publish_hint_on_commit(following)
    return job


def _errors(code: str, detail: str, cause: str) -> dict[str, Any]:
    """What the rules may write as the job's and the attempt's error, whichever of them it will be; and for the history."""
    partly = f"{detail} A part had taken effect by then: see the job's effects. A redrive goes on from its finished steps."
    unknown = (
        detail if code == "outcome-unknown" else f"{detail} An effect had begun; its outcome is not known."
    )
    document = describe_failure(code, detail, cause=cause)
    return {
        "error": encode_payload(document),
        "partial_error": encode_payload(describe_failure("partially-done", partly, cause=cause)),
        "unknown_error": encode_payload(describe_failure("outcome-unknown", unknown, cause=cause)),
        "attempt_error": encode_payload(document),
        "error_code": code,
        "error_cause": document["cause"][:_CAUSE_MAX],
        "said": {"cause": document["cause"], "detail": document["detail"]},
    }


def _publish_grace() -> timedelta:
    return timedelta(seconds=settings.PUBLISH_GRACE_SECONDS)


def _illegal(event: Event, job_id: UUID) -> JobNotFound | JobErased | IllegalTransition:
    job = Job.objects.only("state", "erased_at").filter(pk=job_id).first()
    if job is None:
        return JobNotFound()
    return (
        IllegalTransition(job_id, event, State(job.state))
        if job.erased_at is None
        else JobErased(job.resource)
    )
