"""What an operator does to one job, whosever it is: the services of its client, and the audit entry beside them.

Act and entry are one transaction: dying before its commit leaves neither, and a refusal leaves no entry. Done twice, each
act is refused or changes nothing, as for a client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction

from accounts import audit
from idempotency.key_lifetime import release_key as release
from jobs import services
from jobs.errors import JobNotFound
from jobs.failures import printable
from jobs.models import Job

if TYPE_CHECKING:
    from uuid import UUID

    from jobs.models import JobStep
    from jobs.states import State


def cancel_job(*, job_id: UUID, actor: str, note: str = "") -> Job:
    """The job is canceled, or carries the wish for its attempt to see. Raises JobNotFound, IllegalTransition."""
    job = _find(job_id)
    with transaction.atomic():
        canceled = services.cancel_job(**_owner(job), job_id=job_id, said=_said(actor, note))
        _record("job.cancel", job, actor, note, state=canceled.state)
    return canceled


def redrive_job(*, job_id: UUID, actor: str, note: str = "") -> Job:
    """The failed or canceled job runs again from its finished steps.

    Raises JobNotFound, IllegalTransition, KeyReassigned, DuplicateOperation, JobErased.
    """
    job = _find(job_id)
    with transaction.atomic():
        redriven = services.redrive_job(**_owner(job), job_id=job_id, said=_said(actor, note))
        _record("job.redrive", job, actor, note)
    return redriven


def resolve_job(
    *,
    job_id: UUID,
    step: str,
    verdict: JobStep.State,
    then: State,
    note: str,
    actor: str,
    result: Any = None,  # noqa: ANN401 - any JSON value
) -> Job:
    """A person has said what became of the step's effect, and where the job goes then: `services.resolve_job` tells more.

    Raises ValueError for a blank note and for any other verdict or way, JobNotFound, InvalidVerdict, IllegalTransition.
    """
    note = noted(note)
    return services.resolve_job(
        **_owner(_find(job_id)),
        job_id=job_id,
        step=step,
        verdict=verdict,
        then=then,
        note=note,
        by=actor,
        result=result,
    )


def erase_payload(*, job_id: UUID, actor: str, note: str = "") -> Job:
    """What the job's client gave and got is gone. Raises JobNotFound, and IllegalTransition where it has not ended."""
    job = _find(job_id)
    with transaction.atomic():
        erased = services.erase_payload(**_owner(job), job_id=job_id)
        _record("job.erase", job, actor, note)
    return erased


def release_key(*, record_id: int, owner: int, actor: str, note: str) -> None:
    """The idempotency key is free before its time, and the next request under it is new (`idempotency.key_lifetime`).

    record_id, owner: of the record as the operator saw it. Raises ValueError for a blank note, KeyChanged, ResourceNotEnded.
    """
    note = noted(note)
    with transaction.atomic():
        record = release(record_id=record_id, owner=owner)
        audit.record(
            actor=actor,
            action="key.release",
            subject=f"key/{record.scope}/{record.key}",
            note=note,
            details={"resource": record.resource, "expires_at": record.expires_at.isoformat()},
        )


def noted(note: str) -> str:
    """The note, trimmed. Raises ValueError where there is none: what cannot be taken back needs a reason."""
    if not note.strip():
        raise ValueError("A note is needed: say why.")
    return note.strip()


def _find(job_id: UUID) -> Job:
    job = Job.objects.filter(pk=job_id).first()
    if job is None:
        raise JobNotFound
    return job


def _owner(job: Job) -> dict[str, Any]:
    return {"tenant_id": job.tenant_id, "mode": job.mode}


def _said(actor: str, note: str) -> dict[str, str]:
    """What the job's history tells: who asked, and why if that was said."""
    said = {"by": printable(actor)}
    return {**said, "note": printable(note)} if note else said


def _record(action: str, job: Job, actor: str, note: str, **details: str) -> None:
    audit.record(actor=actor, action=action, subject=job.resource, note=note, details=details)
