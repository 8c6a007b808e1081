"""What changes a job at somebody's request: submit, cancel, redrive, resolve, erase."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import uuid_utils.compat as uuid
from django.conf import settings
from django.db import transaction

from accounts import audit
from accounts.scopes import format_scope
from broker.hints import DueJob, publish_hint_on_commit
from idempotency.queries import (
    erase_by_subject,
    extend_expiry,
    lock_by_subject,
    lock_record,
    reclaim_purged_key,
)
from idempotency.queries import erase_payload as forget_answer
from jobs import transitions
from jobs.errors import (
    CompensatedJobCannotSucceed,
    DuplicateOperation,
    IllegalTransition,
    InvalidVerdict,
    JobNotFound,
    KeyReassigned,
)
from jobs.failures import describe_failure, printable
from jobs.models import Job, JobStep, Priority
from jobs.operations import downstream_key
from jobs.orphaned_files import remove_soon
from jobs.payloads import decode_payload, encode_payload
from jobs.queries.artifacts import discard_artifacts
from jobs.queries.erase import erase_job, lock_job
from jobs.queries.history import request_cancel
from jobs.queries.steps import close_by_verdict, raise_generation, reference_of, steps_of
from jobs.queries.submit import find_twin, insert_job, lock_line
from jobs.states import Event, State
from jobs.verdicts import verdict_errors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from jobs.operations import Operation

# A twin may fail between two of our statements: once is chance, three times is not.
_MAX_TRIES = 3


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job that a client asks for, checked: the operation is known and its params are valid."""

    operation: Operation
    params: dict[str, Any]
    metadata: dict[str, str] = field(default_factory=dict)
    run_at: datetime | None = None  # None, or gone by: now
    deadline: datetime | None = None
    priority: Priority = Priority.DEFAULT
    concurrency_key: str | None = None  # jobs of one key run one at a time, in the order of acceptance


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Which request asked for a job: what log lines and traces of both have in common. Ids alone, so an erasure keeps them."""

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
    """The job is queued and, if it is due now, a hint of it is published after the surrounding transaction's commit.

    One that is due later is the sweeper's to publish. Called inside that transaction, after the key's reservation: both
    are there or neither. Dying after the commit and before the publication costs the publish grace: the row is its own
    outbox. One statement; with a concurrency key one more, which waits for others that enter the same line.
    Raises DuplicateOperation where another live job of the tenant's stands for the same business intent.
    """
    operation = submission.operation
    owner: dict[str, Any] = {"tenant_id": tenant_id, "mode": mode}
    identity = _identity_of(submission)
    if submission.concurrency_key is not None:
        lock_line(**owner, concurrency_key=submission.concurrency_key)
    job = _insert_unless_twin(
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


def _insert_unless_twin(**row: Any) -> Job:  # noqa: ANN401 - the row's columns
    """The new job. A twin that refused it and failed before it could be named stands in nobody's way: again."""
    for _ in range(_MAX_TRIES):
        job = insert_job(job_id=uuid.uuid7(), **row)
        if job is not None:
            return job
        twin = find_twin(**{name: row[name] for name in ("tenant_id", "mode", "operation", "identity")})
        if twin is not None:
            raise DuplicateOperation(twin)
    raise DuplicateOperation(None)


def cancel_job(*, tenant_id: int, mode: str, job_id: UUID, said: Mapping[str, str] | None = None) -> Job:
    """The job is canceled, or carries the wish for its attempt to see. Canceling a canceled job changes nothing.

    said: what its history tells of who asked, where that was not its client.
    Raises JobNotFound, and IllegalTransition where it has ended otherwise or is unknown.
    """
    _mine(tenant_id, mode, job_id)
    # Asked a second time in case a retry queued the job between the two: it need not wait for its next attempt to be told.
    canceled = transitions.cancel_queued_job(job_id=job_id, event_data=said)
    wished = None if canceled else request_cancel(job_id=job_id, said=said)
    if wished is not None and wished.state == State.QUEUED:
        canceled = transitions.cancel_queued_job(job_id=job_id, event_data=said)
    # Under its lock, as what the statements above return: an answer that is kept under a key must not outlive an erasure.
    job = canceled or wished
    if job is None:
        with transaction.atomic():
            job = lock_job(job_id)
    if job is None:
        raise JobNotFound
    if job.state in (State.SUCCEEDED, State.FAILED, State.UNKNOWN):
        raise IllegalTransition(job_id, Event.CANCEL, State(job.state))
    return job


def redrive_job(*, tenant_id: int, mode: str, job_id: UUID, said: Mapping[str, str] | None = None) -> Job:
    """The failed or canceled job runs again from its finished steps; what was refused or undone begins anew under another key.

    said: what its history tells of who asked, where that was not its client.
    Raises KeyReassigned where the job's idempotency key has since started another job, DuplicateOperation where another live job
    has its identity, JobErased where its params are gone. Locks the record, the line, the job.
    """
    job = _mine(tenant_id, mode, job_id)
    with transaction.atomic():
        _prepare_anew(job)
        try:
            job = transitions.redrive_job(job_id=job_id, event_data=said)
        except DuplicateOperation as error:
            raise DuplicateOperation(_twin_of(job)) from error
        for step in steps_of(job_id).values():
            if step.begins_anew_on_redrive:
                key = downstream_key(job_id, step.name, step.generation + 1)
                raise_generation(job_id=job_id, name=step.name, key=key)
    return job


def resolve_job(
    *,
    tenant_id: int,
    mode: str,
    job_id: UUID,
    step: str,
    verdict: JobStep.State,
    then: State,
    note: str,
    by: str,
    result: Any = None,  # noqa: ANN401 - any JSON value
    keep_cancel_request: bool = False,
) -> Job:
    """A person has said what became of the step's effect (`done` or `not_done`), and where the job goes then.

    `then` is succeeded, failed or queued. keep_cancel_request: no operator decided, it only became known what happened; a queued
    job then keeps the cancel request that it had.

    Verdict, state, event and audit entry (note, by whom) are one transaction. Raises ValueError for any other verdict or target,
    InvalidVerdict where the step is not in doubt, IllegalTransition where the job is not unknown or would end with another effect
    open, CompensatedJobCannotSucceed where something that the job did was compensated.
    """
    if errors := verdict_errors(verdict=verdict, then=then, result=result):
        raise ValueError(" ".join(errors.values()))
    job = _mine(tenant_id, mode, job_id)
    with transaction.atomic():
        if then is State.QUEUED:
            _prepare_anew(job)
        is_done = verdict == JobStep.State.DONE
        encoded, reference = (encode_payload(result), reference_of(result)) if is_done else (None, None)
        if not close_by_verdict(job_id=job_id, name=step, state=verdict, result=encoded, reference=reference):
            state = State(_mine(tenant_id, mode, job_id).state)
            raise (
                InvalidVerdict(step)
                if state is State.UNKNOWN
                else IllegalTransition(job_id, Event.RESOLVE, state)
            )
        if then is State.SUCCEEDED and _is_on_its_way_back(job_id, step):
            raise CompensatedJobCannotSucceed
        said = {"step": step, "verdict": verdict, "then": then, "note": printable(note), "by": printable(by)}
        outcome = encode_payload(result) if then is State.SUCCEEDED else None
        resolved = transitions.resolve_job(
            job_id=job_id,
            target=then,
            event_data=said,
            result=outcome,
            keep_cancel_request=keep_cancel_request,
        )
        audit.record(
            actor=by,
            action="job.resolve",
            subject=job.resource,
            note=printable(note),
            details={"step": step, "verdict": verdict, "then": then},
        )
    return resolved


def _is_on_its_way_back(job_id: UUID, in_doubt: str) -> bool:
    """Whether something that the job did was undone, or it is just that which was in doubt."""
    steps = steps_of(job_id)
    return steps[in_doubt].undoes is not None or any(
        step.state == JobStep.State.COMPENSATED for step in steps.values()
    )


def erase_payload(*, tenant_id: int, mode: str, job_id: UUID) -> Job:
    """What the client gave and got is gone, here and in every key's stored answer; ids, keys and states stay. Twice is once.

    The keys stay taken: their retries are told so. Raises IllegalTransition where the job has not ended. All or nothing: one
    transaction. Locks records (those of requests about the job, then the job's own), then the job: a redrive either comes
    first, and the job has not ended, or finds it erased. What a cancel, redrive or resolve answered under a key of its own
    is looked for once the job is locked, since each of them makes its answer under that lock.
    """
    job = _mine(tenant_id, mode, job_id)
    with transaction.atomic():
        lock_by_subject(job.resource)
        record = None if job.idempotency_record_id is None else lock_record(job.idempotency_record_id)
        held = lock_job(job_id)
        if held is None:
            raise JobNotFound
        if not State(held.state).is_terminal:
            raise IllegalTransition(job_id, "erase", State(held.state))
        erased = erase_job(job_id=job_id, error=describe_failure(_code_of(held), "The details were erased."))
        if erased is None:
            return held  # by whoever held the job before us
        erase_by_subject(job.resource)
        if record is not None and record.resource == job.resource:
            forget_answer(record.id)
        remove_soon(discard_artifacts([job_id]))
        return erased


def _code_of(job: Job) -> str:
    """The kind of failure, which stays when its words are erased; any, where the job did not fail."""
    return "operation-failed" if job.error is None else str(decode_payload(job.error)["code"])


def _identity_of(submission: Submission) -> bytes | None:
    """A digest of the business intent, where the operation names one: of any length, in 16 bytes."""
    intent = submission.operation.identity(submission.params)
    return None if intent is None else hashlib.blake2b(intent.encode(), digest_size=16).digest()


def _twin_of(job: Job) -> UUID | None:
    """The other live job with this one's identity, if it has one."""
    if job.identity is None:
        return None
    return find_twin(
        tenant_id=job.tenant_id, mode=job.mode, operation=job.operation, identity=bytes(job.identity)
    )


def _mine(tenant_id: int, mode: str, job_id: UUID) -> Job:
    """The tenant's job. Another tenant's is as missing as one that never was."""
    job = Job.objects.filter(pk=job_id, tenant_id=tenant_id, mode=mode).first()
    if job is None:
        raise JobNotFound
    return job


def lock_concurrency_queue(job: Job) -> None:
    """A job that is queued anew gets a number of its own at the tail of its concurrency key's line, if it has one."""
    if job.concurrency_key is not None:
        lock_line(tenant_id=job.tenant_id, mode=job.mode, concurrency_key=job.concurrency_key)


def _prepare_anew(job: Job) -> None:
    """The job may be queued anew: its key is its own, and its line is entered. Raises KeyReassigned.

    Locks the record, the line, the job, as everyone does who wants more than one of them.
    """
    taken_back = _keep_key(job)
    lock_concurrency_queue(job)
    if taken_back is not None:
        Job.objects.filter(pk=job.id).update(idempotency_record_id=taken_back)


def _keep_key(job: Job) -> int | None:
    """The job's key stays its own while it runs again: locked against a take-over and extended, or taken back if purged.

    The id of its new record in that case. Raises KeyReassigned where the key has started another job since.
    """
    if job.idempotency_record_id is None or job.idempotency_key is None:
        return None
    ttl_seconds = settings.IDEMPOTENCY_TTL_SECONDS
    record = lock_record(job.idempotency_record_id)
    if record is not None:
        if record.resource != job.resource:
            raise KeyReassigned
        extend_expiry(record.id, ttl_seconds=ttl_seconds)
        return None
    scope = format_scope(tenant_id=job.tenant_id, mode=job.mode)
    record_id = reclaim_purged_key(
        scope=scope, key=job.idempotency_key, resource=job.resource, ttl_seconds=ttl_seconds
    )
    if record_id is None:
        raise KeyReassigned
    return record_id
