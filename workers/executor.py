"""One delivery of a job's id, from claim to settled: claim, heartbeat, perform, classify, settle."""

from __future__ import annotations

import os
import socket
import time
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from billiard.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.db import DatabaseError, InterfaceError

from foundation.fault_points import reach
from foundation.spans import span
from jobs import transitions
from jobs.errors import IllegalTransition, StaleAttempt
from jobs.operations import (
    JobCanceled,
    LeaseLost,
    Operation,
    OutcomeUnknown,
    PermanentError,
    RetryableError,
    RunLater,
    TimeLimitReached,
)
from jobs.payloads import decode_payload, encode_payload
from jobs.registry import known_operations, operation_of
from jobs.selectors import unclaimed_reason
from workers import signals
from workers.backoff import retry_delay
from workers.lease import Heartbeat, Lease
from workers.outcomes import Canceled, Failed, Lost, Outcome, Postponed, RetryAt, Succeeded, Unknown
from workers.running_job import RunningJob

if TYPE_CHECKING:
    from uuid import UUID

    from jobs.models import Job

log = structlog.get_logger(__name__)


def execute_job(job_id: UUID) -> Job | None:
    """The job has been run once and settled; None where there was nothing to do or this attempt lost its hold.

    Dying anywhere in here leaves a lease that runs out: the sweeper queues the job again, and its steps tell what was done.
    """
    claimed_at = time.monotonic()
    reach("before_claim")
    job = transitions.claim_job(job_id=job_id, worker=worker_name(), known_operations=known_operations())
    if job is None:
        _drop(job_id)
        return None
    operation = operation_of(job.operation, job.operation_version)
    lease = Lease(
        job_id=job.id,
        attempt=job.attempt,
        time_limit=timedelta(seconds=operation.timeout_seconds),
        claimed_at=claimed_at,
    )
    lease.cancel_requested = job.cancel_requested_at is not None
    # The request's id comes with the job's row: a message that a sweep published knows of no request.
    said = structlog.contextvars.bound_contextvars(
        request_id=job.request_id,
        job_id=str(job.id),
        attempt=job.attempt,
        operation=job.operation,
        tenant_id=job.tenant_id,
    )
    # The heart beats until all is written: a process that hangs in its last words is ended as any other.
    traced = span(
        "attempt", parent=job.traceparent, job_id=str(job.id), number=job.attempt, operation=job.operation
    )
    with said, traced, Heartbeat(lease):
        log.info("job.claimed", queue=job.queue, attempts_left=job.attempts_left)
        reach("after_claim")
        outcome = perform(operation, job, lease)
        reach("before_settle")
        settled = lease.insist(partial(settle, job, outcome, began_at=claimed_at))
    if settled is None and not isinstance(outcome, Lost):
        lease.lose()  # the fence refused its last words
    _tell_end(job, outcome, seconds=time.monotonic() - claimed_at)
    return settled


def _drop(job_id: UUID) -> None:
    """A message that found nothing to claim is told, with the reason as far as one look can tell it."""
    try:
        reason = unclaimed_reason(job_id)
    except (DatabaseError, InterfaceError):  # for whoever counts, and for nothing else
        reason = "not_told"
    log.info("job.not_claimed", job_id=str(job_id), reason=reason)
    signals.delivery_dropped.send_robust(sender=None, reason=reason)


def _tell_end(job: Job, outcome: Outcome, *, seconds: float) -> None:
    name = type(outcome).__name__.lower()
    signals.attempt_ended.send_robust(sender=None, operation=job.operation, outcome=name, seconds=seconds)


def perform(operation: Operation, job: Job, lease: Lease) -> Outcome:
    """What came of running the operation. Every exception is an outcome; none is lost."""
    charged = job.max_attempts - job.attempts_left
    try:
        running = RunningJob(job=job, lease=lease)
        running.check()
        return Succeeded(_perform_or_undo(operation, job, running))
    except JobCanceled:
        return Canceled()
    except LeaseLost:
        return Lost()
    except OutcomeUnknown as error:
        return Unknown(str(error))
    except RunLater as error:
        return Postponed(error.delay, str(error))
    except PermanentError as error:
        return Failed(str(error), error.code)
    except RetryableError as error:
        delay = retry_delay(attempts_charged=charged, at_least=error.retry_after)
        return RetryAt(delay, str(error), error.code)
    except (TimeLimitReached, SoftTimeLimitExceeded):
        detail = f"The attempt ran into its time limit of {operation.timeout_seconds} s."
        return RetryAt(retry_delay(attempts_charged=charged), detail, "time-limit")
    except Exception as error:
        log.exception("job.raised")
        return RetryAt(
            retry_delay(attempts_charged=charged), f"{type(error).__name__}: {error}", type(error).__name__
        )


def _perform_or_undo(operation: Operation, job: Job, running: RunningJob) -> bytes:
    """The operation's result, encoded. An end for good comes after what was done has been undone, as far as it can be."""
    try:
        return _within_bounds(encode_payload(operation.perform(_checked_params(operation, job), running)))
    except (JobCanceled, PermanentError) as end:
        running.undo(end)
        raise


def _within_bounds(result: bytes) -> bytes:
    if len(result) > settings.RESULT_MAX_BYTES:
        raise PermanentError(
            f"The result is larger than {settings.RESULT_MAX_BYTES} bytes.", code="result-too-large"
        )
    return result


def settle(job: Job, outcome: Outcome, *, began_at: float) -> Job | None:
    """The outcome is on the job, in one transaction with its attempt and event; None where the job is another attempt's.

    An end that the table forbids while an effect is open becomes a retry, which finds out about the effect first.
    began_at: when the claim was sent, by the monotonic clock.
    """
    try:
        settled = _write_or_retry(job, outcome)
    except StaleAttempt:
        settled = None
    if settled is None:
        log.warning("job.stale")
    else:
        seconds = round(time.monotonic() - began_at, 6)
        log.info("job.settled", outcome=type(outcome).__name__.lower(), state=settled.state, seconds=seconds)
    return settled


def _write_or_retry(job: Job, outcome: Outcome) -> Job | None:
    try:
        return _write(job, outcome)
    except IllegalTransition as error:
        charged = job.max_attempts - job.attempts_left
        return _write(job, RetryAt(retry_delay(attempts_charged=charged), str(error), "effect-open"))


def _write(job: Job, outcome: Outcome) -> Job | None:
    held: dict[str, Any] = {"job_id": job.id, "attempt": job.attempt}
    match outcome:
        case Succeeded(result):
            has_key = job.concurrency_key is not None
            return transitions.succeed_job(**held, result=result, has_concurrency_key=has_key)
        case RetryAt(delay, detail, cause):
            return transitions.retry_job(**held, delay=delay, detail=detail, cause=cause)
        case Postponed(delay, detail):
            return transitions.postpone_job(**held, delay=delay, detail=detail)
        case Failed(detail, cause):
            return transitions.fail_job(**held, detail=detail, cause=cause)
        case Unknown(detail):
            return transitions.doubt_job(**held, detail=detail)
        case Canceled():
            return transitions.end_canceled_job(**held)
        case Lost():
            return None


def worker_name() -> str:
    """Which process holds a lease, for people: host and process id."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _checked_params(operation: Operation, job: Job) -> dict[str, Any]:
    serializer = operation.params(data=decode_payload(job.params))
    if not serializer.is_valid():
        raise PermanentError(
            f"The stored params no longer fit the operation: {serializer.errors}", code="invalid-params"
        )
    return dict(serializer.validated_data)
