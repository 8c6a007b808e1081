"""Submit a job: the row, its first event and the hint for a worker."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import uuid_utils.compat as uuid
from django.conf import settings
from django.db import transaction
from django.db.models.base import ModelState

from broker.hints import DueJob
from broker.publisher import publish_committed
from jobs.errors import DuplicateOperation
from jobs.models import Job, Priority
from jobs.payloads import encode_payload
from jobs.queries.concurrency_queue import lock_concurrency_key
from jobs.queries.submit import JOB_CTES, find_job_by_identity, insert_job, job_values
from jobs.signals import StateChange, state_changed
from jobs.states import Event, State

if TYPE_CHECKING:
    from jobs.operations import Operation

# The job with the same identity may end between the insert and the look-up. After three tries in a row, report a duplicate.
_MAX_TRIES = 3


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A validated request for a job: the operation is known and its params are valid."""

    operation: Operation
    params: dict[str, Any]
    metadata: dict[str, str] = field(default_factory=dict)
    run_at: datetime | None = None  # None, or in the past: now
    deadline: datetime | None = None
    priority: Priority = Priority.DEFAULT
    concurrency_key: str | None = None  # jobs with one key run one at a time, in the order of acceptance


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The request that submitted a job, for logs and traces. Only ids, so an erasure keeps them."""

    request_id: str | None = None  # at most 128 characters
    traceparent: str | None = None  # W3C Trace Context, of the span in which the job was accepted


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job that the statement which accepts its key inserts: `ctes` with `values` (jobs.queries.submit)."""

    job: Job
    ctes: str
    values: Mapping[str, Any]


def plan_job(
    *, tenant_id: int, mode: str, submission: Submission, origin: Origin, idempotency_key: str, at: datetime
) -> PlannedJob | None:
    """Return a job that can be inserted by the statement that accepts its key; None if it needs a transaction.

    A concurrency key needs a lock before the insert, and an identity may be refused after it. at: the database's clock.
    Call `announce_job` after the commit.
    """
    if submission.concurrency_key is not None:
        return None
    job = _new_job(
        tenant_id=tenant_id, mode=mode, submission=submission, origin=origin, idempotency_key=idempotency_key
    )
    if job.identity is not None:
        return None
    job.created_at, job.run_at = at, max(at, submission.run_at or at)
    return PlannedJob(job, JOB_CTES, job_values(job))


def announce_job(job: Job) -> None:
    """Publish a hint of the committed job if it can run soon, and count it. Never raises for Redis."""
    in_seconds = (job.run_at - job.created_at).total_seconds()
    if not job.held and in_seconds <= settings.SWEEP_SECONDS:
        publish_committed(DueJob(job.id, job.queue, in_seconds))
    state_changed.send_robust(sender=None, change=StateChange(job.operation, Event.SUBMIT.value, job.state))


def submit_job(
    *,
    tenant_id: int,
    mode: str,
    submission: Submission,
    origin: Origin = Origin(),
    idempotency_record_id: int | None = None,
    idempotency_key: str | None = None,
) -> Job:
    """Queue a job in the caller's transaction, after the key's reservation; publish a hint after the commit if it can run soon.

    The sweep finds jobs that are due later, and jobs whose process died between the commit and the hint: there is no separate
    outbox table. Sends one statement. A concurrency key adds a second one, which waits for transactions that enter or leave the
    same queue.
    Raises DuplicateOperation where another live job of the tenant has the same business intent.
    """
    job = _new_job(
        tenant_id=tenant_id, mode=mode, submission=submission, origin=origin, idempotency_key=idempotency_key
    )
    job.idempotency_record_id = idempotency_record_id
    if job.concurrency_key is not None:
        lock_concurrency_key(tenant_id=tenant_id, mode=mode, concurrency_key=job.concurrency_key)
    _insert_unless_duplicate(job)
    transaction.on_commit(lambda: announce_job(job), robust=True)
    return job


def _new_job(*, tenant_id: int, mode: str, submission: Submission, origin: Origin, idempotency_key: str | None) -> Job:
    operation = submission.operation
    # Not by the constructor, which looks at every column: it takes as long as a tenth of a whole request.
    job = Job.__new__(Job)
    vars(job).update(
        _defaults(),
        _state=ModelState(),
        run_at=submission.run_at,
        created_at=None,  # the database's clock, at the insert
        id=uuid.uuid7(),
        tenant_id=tenant_id,
        mode=mode,
        operation=operation.name,
        operation_version=operation.version,
        params=encode_payload(submission.params),
        metadata=submission.metadata,
        state=State.QUEUED.value,
        attempts_left=operation.max_attempts,
        max_attempts=operation.max_attempts,
        deadline_at=submission.deadline,
        concurrency_key=submission.concurrency_key,
        queue=queue_of(operation, submission.priority),
        priority=submission.priority,
        identity=_identity_of(submission),
        idempotency_key=idempotency_key,
        request_id=origin.request_id,
        traceparent=origin.traceparent,
    )
    return job


@cache
def _defaults() -> Mapping[str, Any]:
    return {name: value for name, value in vars(Job()).items() if name != "_state"}


def queue_of(operation: Operation, priority: Priority) -> str:
    """Return the queue of a new job. A job stays on its queue, also when a later deploy changes `io_bound`."""
    name = priority.name.lower()
    return f"io-{name}" if operation.io_bound else name


def _insert_unless_duplicate(job: Job) -> None:
    """Insert the job. If a duplicate refused the insert but has ended since, try again. Raises DuplicateOperation."""
    for _ in range(_MAX_TRIES):
        if insert_job(job):
            return
        duplicate = find_job_by_identity(job)
        if duplicate is not None:
            raise DuplicateOperation(duplicate)
    raise DuplicateOperation(None)


def _identity_of(submission: Submission) -> bytes | None:
    """Return a 16-byte digest of the business intent; None if the operation defines none."""
    intent = submission.operation.identity(submission.params)
    return None if intent is None else hashlib.blake2b(intent.encode(), digest_size=16).digest()
