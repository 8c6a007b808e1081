"""Submit a job: the row, its first event and the hint for a worker."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import uuid_utils.compat as uuid
from django.conf import settings

from broker.hints import DueJob
from broker.publisher import publish_hint_on_commit
from jobs.errors import DuplicateOperation
from jobs.models import Job, Priority
from jobs.payloads import encode_payload
from jobs.queries.submit import find_job_by_identity, insert_job, lock_concurrency_key

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


def submit_job(
    *,
    tenant_id: int,
    mode: str,
    submission: Submission,
    origin: Origin = Origin(),
    idempotency_record_id: int | None = None,
    idempotency_key: str | None = None,
) -> Job:
    """Queue a job in the caller's transaction, after the key's reservation; publish a hint after the commit if it is due.

    The sweep publishes jobs that are due later, and jobs whose process died between the commit and the hint: there is no separate
    outbox table. Sends one statement. A concurrency key adds a second one, which waits for transactions that enter the same
    queue.
    Raises DuplicateOperation where another live job of the tenant has the same business intent.
    """
    operation = submission.operation
    owner: dict[str, Any] = {"tenant_id": tenant_id, "mode": mode}
    identity = _identity_of(submission)
    if submission.concurrency_key is not None:
        lock_concurrency_key(**owner, concurrency_key=submission.concurrency_key)
    job = _insert_unless_duplicate(
        **owner,
        operation=operation.name,
        operation_version=operation.version,
        params=encode_payload(submission.params),
        metadata=submission.metadata,
        max_attempts=operation.max_attempts,
        run_at=submission.run_at,
        deadline_at=submission.deadline,
        concurrency_key=submission.concurrency_key,
        queue=submission.priority.name.lower(),
        priority=submission.priority,
        identity=identity,
        grace=timedelta(seconds=settings.PUBLISH_GRACE_SECONDS),
        idempotency_record_id=idempotency_record_id,
        idempotency_key=idempotency_key,
        request_id=origin.request_id,
        traceparent=origin.traceparent,
    )
    if job.run_at <= job.created_at:
        publish_hint_on_commit(DueJob(job.id, job.queue))
    return job


def _insert_unless_duplicate(**row: Any) -> Job:  # noqa: ANN401 - the row's columns
    """Insert the job. If a duplicate refused the insert but has ended since, try again. Raises DuplicateOperation."""
    for _ in range(_MAX_TRIES):
        job = insert_job(job_id=uuid.uuid7(), **row)
        if job is not None:
            return job
        duplicate = find_job_by_identity(**{name: row[name] for name in ("tenant_id", "mode", "operation", "identity")})
        if duplicate is not None:
            raise DuplicateOperation(duplicate)
    raise DuplicateOperation(None)


def _identity_of(submission: Submission) -> bytes | None:
    """Return a 16-byte digest of the business intent; None if the operation defines none."""
    intent = submission.operation.identity(submission.params)
    return None if intent is None else hashlib.blake2b(intent.encode(), digest_size=16).digest()
