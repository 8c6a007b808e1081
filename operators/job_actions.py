"""The services of jobs for operators: they act on a job of any tenant and add an audit entry.

Action and audit entry are one transaction: a crash before the commit leaves neither, and a refusal leaves no entry. A repeated
action is refused or changes nothing, as for a client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import transaction

from accounts import audit
from idempotency import key_lifetime
from jobs import services
from jobs.errors import JobNotFound
from jobs.models import Job
from jobs.payloads import printable

if TYPE_CHECKING:
    from jobs.models import JobStep
    from jobs.states import State


def cancel_job(*, job_id: UUID, actor: str, note: str = "") -> Job:
    """Cancel the job, or request the cancellation of a running one. Raises JobNotFound, IllegalTransition."""
    job = _get_job(job_id)
    with transaction.atomic():
        canceled = services.cancel_job(**owner_of(job), event_data=event_data(actor, note))
        _audit("job.cancel", job, actor, note, state=canceled.state)
    return canceled


def redrive_job(*, job_id: UUID, actor: str, note: str = "") -> Job:
    """Queue the failed or canceled job again; it continues after its finished steps.

    Raises JobNotFound, IllegalTransition, KeyReassigned, DuplicateOperation, JobErased.
    """
    job = _get_job(job_id)
    with transaction.atomic():
        _audit("job.redrive", job, actor, note)
        return services.redrive_job(**owner_of(job), event_data=event_data(actor, note))


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
    """Apply the operator's verdict about the step's effect, as `services.resolve_job` does, which writes the audit entry.

    Raises ValueError for a blank note and a verdict that the rules do not allow, JobNotFound, InvalidVerdict,
    IllegalTransition.
    """
    owner, note = owner_of(_get_job(job_id)), require_note(note)
    return services.resolve_job(**owner, step=step, verdict=verdict, then=then, note=note, by=actor, result=result)


def erase_payload(*, job_id: UUID, actor: str, note: str = "") -> Job:
    """Erase what the job's client sent and received. Raises JobNotFound, and IllegalTransition if the job has not ended."""
    job = _get_job(job_id)
    with transaction.atomic():
        _audit("job.erase", job, actor, note)
        return services.erase_payload(**owner_of(job))


def release_key(*, record_id: int, owner: int, actor: str, note: str) -> None:
    """Release the idempotency key before it expires; the next request with it is new (`idempotency.key_lifetime`).

    record_id, owner: of the record as the operator saw it. Raises ValueError for a blank note, KeyChanged, ResourceNotEnded.
    """
    note = require_note(note)
    with transaction.atomic():
        record = key_lifetime.release_key(record_id=record_id, owner=owner)
        audit.record(
            actor=actor,
            action="key.release",
            subject=f"key/{record.scope}/{record.key}",
            note=note,
            details={"resource": record.resource, "expires_at": record.expires_at.isoformat()},
        )


def require_note(note: str) -> str:
    """Return the trimmed note. Raise ValueError if it is blank."""
    if not note.strip():
        raise ValueError("A note with the reason is required.")
    return note.strip()


def owner_of(job: Job) -> dict[str, Any]:
    """Return what the client's services need to find the job."""
    return {"tenant_id": job.tenant_id, "mode": job.mode, "job_id": job.id}


def event_data(actor: str, note: str, **more: str) -> dict[str, str]:
    """Return the data of the event in the job's history: the operator, and the note if there is one."""
    return {"by": printable(actor), **({"note": printable(note)} if note else {}), **more}


def _get_job(job_id: UUID) -> Job:
    job = Job.objects.filter(pk=job_id).first()
    if job is None:
        raise JobNotFound
    return job


def _audit(action: str, job: Job, actor: str, note: str, **details: str) -> None:
    audit.record(actor=actor, action=action, subject=job.resource, note=note, details=details)
