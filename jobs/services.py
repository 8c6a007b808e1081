"""Cancel, redrive, resolve and erase jobs. Lock order: idempotency record, concurrency queue, job."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction

from accounts import audit
from accounts.scopes import format_scope
from idempotency import queries as records
from jobs import transitions
from jobs.errors import (
    CompensatedJobCannotSucceed,
    DuplicateOperation,
    IllegalTransition,
    InvalidVerdict,
    JobNotFound,
    KeyReassigned,
)
from jobs.models import Job, JobStep
from jobs.operations import downstream_key
from jobs.orphaned_files import remove_on_commit
from jobs.payloads import decode_payload, describe_failure, encode_payload, printable
from jobs.queries.artifacts import discard_artifacts
from jobs.queries.concurrency_queue import lock_concurrency_key
from jobs.queries.erase import erase_job, lock_job
from jobs.queries.events import request_cancel
from jobs.queries.steps import close_by_verdict, raise_generation, reference_of, steps_of
from jobs.queries.submit import find_job_by_identity
from jobs.selectors import get_job
from jobs.states import Event, State

_VERDICTS = (JobStep.State.DONE, JobStep.State.NOT_DONE)
_TARGETS = (State.SUCCEEDED, State.FAILED, State.QUEUED)


def cancel_job(*, tenant_id: int, mode: str, job_id: UUID, event_data: Mapping[str, str] | None = None) -> Job:
    """Cancel the job if it is queued. If it is running, record a cancel request. Canceling twice changes nothing.

    event_data: who canceled it, for its history, where that was not its client.
    Raises JobNotFound, and IllegalTransition where the job has succeeded, failed or is unknown.
    """
    get_job(tenant_id=tenant_id, mode=mode, job_id=job_id)
    canceled = transitions.cancel_queued_job(job_id=job_id, event_data=event_data)
    requested = None if canceled else request_cancel(job_id=job_id, event_data=event_data)
    if requested is not None and requested.state == State.QUEUED:
        # A retry queued the job between the two statements: cancel it now instead of at its next attempt.
        canceled = transitions.cancel_queued_job(job_id=job_id, event_data=event_data)
    job = canceled or requested
    if job is None:
        # Read under the lock, as the statements above do: a response that is stored must not outlive an erasure.
        with transaction.atomic():
            job = lock_job(job_id)
    if job is None:
        raise JobNotFound
    if job.state in (State.SUCCEEDED, State.FAILED, State.UNKNOWN):
        raise IllegalTransition(job_id, Event.CANCEL, State(job.state))
    return job


def redrive_job(*, tenant_id: int, mode: str, job_id: UUID, event_data: Mapping[str, str] | None = None) -> Job:
    """Queue the failed or canceled job again. Finished steps stay; refused or undone ones get a new downstream key.

    event_data: who redrove it, for its history, where that was not its client.
    Raises KeyReassigned where the job's idempotency key has started another job, DuplicateOperation where another live job has
    its identity, JobErased where its params are gone, IllegalTransition in any other state.
    """
    job = get_job(tenant_id=tenant_id, mode=mode, job_id=job_id)
    with transaction.atomic():
        _prepare_requeue(job)
        try:
            job = transitions.apply_redrive(job_id=job_id, event_data=event_data)
        except DuplicateOperation as error:
            raise DuplicateOperation(find_job_by_identity(job)) from error
        for step in steps_of(job_id).values():
            if step.needs_new_key_on_redrive:
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
    """Close the step by a verdict (`done` or `not_done`) and move its unknown job to `then` (succeeded, failed or queued).

    keep_cancel_request: a job that is queued again keeps its cancel request; for outcomes that were reported, not decided.
    Verdict, state, event and audit entry (note, by whom) are one transaction. Raises ValueError for what `verdict_errors`
    refuses, InvalidVerdict where the step's outcome is known, IllegalTransition where the job is not unknown or would end with
    another effect open, CompensatedJobCannotSucceed where something that the job did was compensated.
    """
    if errors := verdict_errors(verdict=verdict, then=then, result=result):
        raise ValueError(" ".join(errors.values()))
    job = get_job(tenant_id=tenant_id, mode=mode, job_id=job_id)
    decision = {"step": step, "verdict": verdict, "then": then}
    with transaction.atomic():
        if then is State.QUEUED:
            _prepare_requeue(job)
        is_done = verdict == JobStep.State.DONE
        closed = close_by_verdict(
            job_id=job_id,
            name=step,
            state=verdict,
            result=encode_payload(result) if is_done else None,
            reference=reference_of(result) if is_done else None,
        )
        if not closed:
            state = State(get_job(tenant_id=tenant_id, mode=mode, job_id=job_id).state)
            if state is State.UNKNOWN:
                raise InvalidVerdict(step)
            raise IllegalTransition(job_id, Event.RESOLVE, state)
        if then is State.SUCCEEDED and _has_compensated(job_id, step):
            raise CompensatedJobCannotSucceed
        resolved = transitions.apply_resolve(
            job_id=job_id,
            target=then,
            event_data={**decision, "note": printable(note), "by": printable(by)},
            result=encode_payload(result) if then is State.SUCCEEDED else None,
            keep_cancel_request=keep_cancel_request,
        )
        audit.record(actor=by, action="job.resolve", subject=job.resource, note=printable(note), details=decision)
    return resolved


def verdict_errors(*, verdict: object, then: object, result: object = None) -> dict[str, str]:
    """Return what is wrong with the verdict, by argument; empty where `resolve_job` accepts it.

    then: the state in which the verdict leaves the job. result: that of the effect, any JSON value.
    """
    errors = {}
    if verdict not in _VERDICTS:
        errors["verdict"] = "A verdict is done or not_done."
    if then not in _TARGETS:
        errors["then"] = "A resolved job is succeeded, failed or queued."
    if verdict == JobStep.State.NOT_DONE and then == State.SUCCEEDED:
        errors["then"] = "A job whose effect was not done cannot succeed."
    if verdict == JobStep.State.NOT_DONE and result is not None:
        errors["result"] = "An effect that was not done has no result."
    return errors


def erase_payload(*, tenant_id: int, mode: str, job_id: UUID) -> Job:
    """Erase what the client sent and received, here and in stored responses. Ids, keys and states stay; erasing twice is allowed.

    The keys stay taken: a retry under one gets `payload-erased`. Raises IllegalTransition where the job has not ended.
    Uses one transaction. Locks the records of requests about the job, then the job's own record, then the job. If a redrive
    commits
    first, the job has not ended and is not erased; if it commits later, it finds the job erased. Responses to cancel, redrive and
    resolve are written while the job is locked, so they are erased while it is locked too.
    """
    job = get_job(tenant_id=tenant_id, mode=mode, job_id=job_id)
    with transaction.atomic():
        records.lock_by_subject(job.resource)
        record = None if job.idempotency_record_id is None else records.lock_record(job.idempotency_record_id)
        locked = lock_job(job_id)
        if locked is None:
            raise JobNotFound
        if not State(locked.state).is_terminal:
            raise IllegalTransition(job_id, "erase", State(locked.state))
        # Keep the failure's code and erase its text. `erase_job` needs a code even if the job did not fail.
        code = "operation-failed" if locked.error is None else str(decode_payload(locked.error)["code"])
        erased = erase_job(job_id=job_id, error=describe_failure(code, "The details were erased."))
        if erased is None:
            return locked  # erased by the transaction that held the lock before
        records.erase_by_subject(job.resource)
        if record is not None and record.resource == job.resource:
            records.erase_payload(record.id)
        remove_on_commit(discard_artifacts([job_id]))
        return erased


def lock_concurrency_queue(job: Job) -> None:
    """Lock the queue of the job's concurrency key, if it has one, before the job is queued again at its tail."""
    if job.concurrency_key is not None:
        lock_concurrency_key(tenant_id=job.tenant_id, mode=job.mode, concurrency_key=job.concurrency_key)


def _prepare_requeue(job: Job) -> None:
    """Lock what a requeue needs (record, concurrency queue) and extend the key's expiry. Raises KeyReassigned."""
    reclaimed = _retain_key(job)
    lock_concurrency_queue(job)
    if reclaimed is not None:
        Job.objects.filter(pk=job.id).update(idempotency_record_id=reclaimed)


def _retain_key(job: Job) -> int | None:
    """Lock the job's record against a take-over and extend it. If it was purged, reserve the key again and return the new id."""
    if job.idempotency_record_id is None or job.idempotency_key is None:
        return None
    ttl_seconds = settings.IDEMPOTENCY_TTL_SECONDS
    record = records.lock_record(job.idempotency_record_id)
    if record is not None:
        if record.resource != job.resource:
            raise KeyReassigned
        records.extend_expiry(record.id, ttl_seconds=ttl_seconds)
        return None
    scope = format_scope(tenant_id=job.tenant_id, mode=job.mode)
    record_id = records.reclaim_purged_key(
        scope=scope, key=job.idempotency_key, resource=job.resource, ttl_seconds=ttl_seconds
    )
    if record_id is None:
        raise KeyReassigned
    return record_id


def _has_compensated(job_id: UUID, closed_step: str) -> bool:
    """True if an effect of the job was compensated, or the step that was just closed is a compensation."""
    steps = steps_of(job_id)
    return steps[closed_step].undoes is not None or any(
        step.state == JobStep.State.COMPENSATED for step in steps.values()
    )
