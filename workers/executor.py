"""The engine: claim a job, perform its operation, settle the outcome."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import structlog
from billiard.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.db import DatabaseError, InterfaceError

from foundation.fault_points import reach
from foundation.spans import span
from jobs import transitions
from jobs.errors import IllegalTransition, StaleAttempt
from jobs.forms import bind_form
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
from jobs.states import State
from workers import signals
from workers.backoff import retry_delay
from workers.heartbeat import heartbeat
from workers.job_handle import RunningJob
from workers.lease import Lease
from workers.outcomes import Canceled, Failed, Lost, Outcome, Postponed, RetryAt, Succeeded, Unknown

if TYPE_CHECKING:
    from jobs.models import Job
    from jobs.queries.claim import NextJob

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job that this worker has just claimed."""

    job: Job
    claimed_at: float  # of the monotonic clock, before the claim was sent


class AttemptEnd(NamedTuple):
    """How an attempt ended."""

    settled: Job | None  # None if the lease was lost, or the settle and the next claim were one statement
    has_searched: bool = False  # whether it also looked for the next job
    following: ClaimedJob | None = None  # the job that it claimed


def execute_job(job_id: UUID) -> Job | None:
    """Run the job once and return it settled; None if it could not be claimed, or the lease was lost."""
    claimed = claim_hinted_job(job_id)
    return None if claimed is None else run_attempt(claimed).settled


def claim_hinted_job(job_id: UUID) -> ClaimedJob | None:
    """Claim the job that a hint names; None if it cannot be claimed, which is logged and counted with its reason."""
    claimed_at = time.monotonic()
    reach("before_claim")
    job = transitions.claim_job(job_id=job_id, worker=worker_name(), known_operations=known_operations())
    if job is None:
        _report_unclaimed(job_id)
        return None
    return ClaimedJob(job, claimed_at)


def run_attempt(claimed: ClaimedJob, *, choose_next: Callable[[], NextJob | None] = lambda: None) -> AttemptEnd:
    """Perform the claimed job's operation and settle its outcome.

    choose_next: called at the end of the operation. If it returns which job to take next and this one has succeeded, the settle
    and that claim share a statement.
    If the process dies in this function, the lease expires and the sweep queues the job again. The recorded steps show the next
    attempt what was done.
    """
    job, claimed_at = claimed.job, claimed.claimed_at
    operation = operation_of(job.operation, job.operation_version)
    lease = Lease(
        job_id=job.id,
        attempt=job.attempt,
        time_limit=timedelta(seconds=operation.timeout_seconds),
        claimed_at=claimed_at,
        cancel_requested=job.cancel_requested_at is not None,
    )
    log_context = structlog.contextvars.bound_contextvars(
        # Take the id from the job's row: a worker has no request.
        request_id=job.request_id,
        job_id=str(job.id),
        attempt=job.attempt,
        operation=job.operation,
        tenant_id=job.tenant_id,
    )
    trace = span("attempt", parent=job.traceparent, job_id=str(job.id), number=job.attempt, operation=job.operation)
    # The heartbeat runs until the outcome is committed, so that a process that hangs while settling is killed too.
    with log_context, trace, heartbeat.renewing(lease):
        log.debug("job.claimed", queue=job.queue, attempts_left=job.attempts_left)
        reach("after_claim")
        outcome = perform(operation, job, lease)
        reach("before_settle")
        state, end = _settle_and_claim(job, outcome, lease, choose_next())
        name, seconds = type(outcome).__name__.lower(), time.monotonic() - claimed_at
        if state is None:
            log.warning("job.stale")
        else:
            log.info(
                "job.settled", outcome=name, state=state, seconds=round(seconds, 6), wait_seconds=_waited_seconds(job)
            )
    signals.attempt_ended.send_robust(sender=None, operation=job.operation, outcome=name, seconds=seconds)
    return end


def _settle_and_claim(
    job: Job, outcome: Outcome, lease: Lease, wanted: NextJob | None
) -> tuple[str | None, AttemptEnd]:
    """Settle the outcome, together with the claim of the next job if that is possible. Return the state, None if stale."""
    following = None
    has_searched = False
    if wanted is not None and isinstance(outcome, Succeeded) and job.concurrency_key is None:
        is_settled, following = lease.retry_write(partial(_succeed_and_claim, job, outcome, wanted))
        has_searched = is_settled or following is not None
        if is_settled:
            return State.SUCCEEDED, AttemptEnd(None, has_searched, following)
    settled = settle(job, outcome, lease)
    return None if settled is None else settled.state, AttemptEnd(settled, has_searched, following)


def _succeed_and_claim(job: Job, outcome: Succeeded, wanted: NextJob) -> tuple[bool, ClaimedJob | None]:
    claimed_at = time.monotonic()
    claimed, is_settled = transitions.succeed_and_claim_next_job(
        job_id=job.id, attempt=job.attempt, result=outcome.result, wanted=wanted
    )
    return is_settled, None if claimed is None else ClaimedJob(claimed, claimed_at)


def _waited_seconds(job: Job) -> float | None:
    """Return how long the job was due before this attempt."""
    return None if job.started_at is None else round((job.started_at - job.run_at).total_seconds(), 6)


def worker_name() -> str:
    """Return the lease holder's name, for people: host and process id."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _report_unclaimed(job_id: UUID) -> None:
    try:
        reason = unclaimed_reason(job_id)
    except (DatabaseError, InterfaceError):  # the reason is only for logs and metrics
        reason = "lookup_failed"
    log.debug("job.not_claimed", job_id=str(job_id), reason=reason)
    signals.delivery_dropped.send_robust(sender=None, reason=reason)


def perform(operation: Operation, job: Job, lease: Lease) -> Outcome:
    """Run the operation and return its outcome. Each exception is converted to an outcome."""
    try:
        handle = RunningJob(job=job, lease=lease)
        handle.check()
        return Succeeded(_run_or_compensate(operation, job, handle))
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
        return _retry(job, str(error), error.code, at_least=error.retry_after)
    except (TimeLimitReached, SoftTimeLimitExceeded):
        detail = f"The attempt reached its time limit of {operation.timeout_seconds} s."
        return _retry(job, detail, "time-limit")
    except Exception as error:
        log.exception("job.raised")
        return _retry(job, f"{type(error).__name__}: {error}", type(error).__name__)


def _run_or_compensate(operation: Operation, job: Job, handle: RunningJob) -> bytes:
    """Return the operation's encoded result. If it is canceled or fails permanently, undo the done effects and raise again."""
    try:
        return _checked_result(operation.perform(_checked_params(operation, job), handle))
    except (JobCanceled, PermanentError) as end:
        handle.compensate(end)
        raise


def _checked_params(operation: Operation, job: Job) -> dict[str, Any]:
    serializer = bind_form(operation.params, decode_payload(job.params))
    if not serializer.is_valid():
        raise PermanentError(
            f"The stored params no longer fit the operation: {serializer.errors}", code="invalid-params"
        )
    return dict(serializer.validated_data)


def _checked_result(result: object) -> bytes:
    encoded = encode_payload(result)
    if len(encoded) > settings.RESULT_MAX_BYTES:
        raise PermanentError(f"The result is larger than {settings.RESULT_MAX_BYTES} bytes.", code="result-too-large")
    return encoded


def _retry(job: Job, detail: str, cause: str, *, at_least: timedelta | None = None) -> RetryAt:
    charged = job.max_attempts - job.attempts_left
    return RetryAt(retry_delay(attempts_charged=charged, at_least=at_least), detail, cause)


def settle(job: Job, outcome: Outcome, lease: Lease) -> Job | None:
    """Write the outcome to the job, its attempt and its history in one transaction; None if the job is another attempt's."""
    if isinstance(outcome, Lost):
        return None
    settled = lease.retry_write(partial(_write_or_retry, job, outcome))
    if settled is None:
        lease.mark_lost()
    return settled


def _write_or_retry(job: Job, outcome: Outcome) -> Job | None:
    with suppress(StaleAttempt):
        try:
            return _write(job, outcome)
        except IllegalTransition as error:
            # An effect is open. Retry the job: the next attempt first finds the effect's outcome.
            return _write(job, _retry(job, str(error), "effect-open"))
    return None


def _write(job: Job, outcome: Outcome) -> Job | None:
    fence: dict[str, Any] = {
        "job_id": job.id,
        "attempt": job.attempt,
        "has_concurrency_key": job.concurrency_key is not None,
    }
    match outcome:
        case Succeeded(result):
            return transitions.succeed_job(**fence, result=result)
        case RetryAt(delay, detail, cause):
            return transitions.retry_job(**fence, delay=delay, detail=detail, cause=cause)
        case Postponed(delay, detail):
            return transitions.postpone_job(**fence, delay=delay, detail=detail)
        case Failed(detail, cause):
            return transitions.fail_job(**fence, detail=detail, cause=cause)
        case Unknown(detail):
            return transitions.stop_as_unknown(**fence, detail=detail)
        case Canceled():
            return transitions.stop_canceled_job(**fence)
        case Lost():
            return None
