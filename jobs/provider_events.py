"""The world's own word on an effect: kept in the job's history, and enough to resolve a job that is unknown for want of it.

It may come before the doubt or after it, twice, late or never. Before: nothing is in doubt yet, and the sweeper finds it once
the job is unknown. After: the job is resolved in the same transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from django.db import transaction

from idempotency.queries import lock_record
from jobs.errors import IllegalTransition, InvalidVerdict, JobError
from jobs.models import Job, JobStep
from jobs.queries.provider_events import append_provider_event, find_told_jobs
from jobs.services import lock_concurrency_queue, resolve_job
from jobs.states import State

if TYPE_CHECKING:
    from uuid import UUID

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class ProviderEvent:
    """Somebody outside says that the effect with this downstream key took place, and what came of it."""

    job_id: UUID
    source: str
    message_id: str
    type: str
    key: str
    result: Any


def record_provider_event(evidence: ProviderEvent) -> None:
    """It stands in the job's history; a job that is unknown because of just this effect is queued again, to go on from there.

    Part of the caller's transaction. Nothing happens where there is no such job. Locks the record, the line, the job.
    """
    job = Job.objects.filter(pk=evidence.job_id).first()
    if job is None:
        return
    if job.idempotency_record_id is not None:
        lock_record(job.idempotency_record_id)
    lock_concurrency_queue(job)
    append_provider_event(
        job_id=job.id,
        data={
            "source": evidence.source,
            "message_id": evidence.message_id,
            "type": evidence.type,
            "key": evidence.key,
            "result": evidence.result,
        },
    )
    step = JobStep.objects.filter(
        job_id=job.id, downstream_key=evidence.key, state=JobStep.State.STARTED
    ).first()
    if step is not None:
        _resolve(job, step.name, evidence)


def resolve_from_events(*, limit: int) -> int:
    """How many unknown jobs were resolved by what their history has known since before the doubt. Each in a commit of its own."""
    resolved = 0
    for told in find_told_jobs(limit=limit):
        evidence = ProviderEvent(
            job_id=told.job_id,
            source=told.data["source"],
            message_id=told.data["message_id"],
            type=told.data["type"],
            key=told.data["key"],
            result=told.data["result"],
        )
        resolved += _resolve(Job.objects.get(pk=told.job_id), told.step, evidence)
    return resolved


def _resolve(job: Job, step: str, evidence: ProviderEvent) -> bool:
    """Whether the job was unknown and is queued now. Whoever comes second, a person among them, finds it so and does nothing."""
    try:
        # A savepoint: a refusal must not spoil what the caller has written.
        with transaction.atomic():
            resolve_job(
                tenant_id=job.tenant_id,
                mode=job.mode,
                job_id=job.id,
                step=step,
                verdict=JobStep.State.DONE,
                then=State.QUEUED,
                note=f"{evidence.type}, event {evidence.message_id}",
                by=f"provider {evidence.source}",
                result=evidence.result,
                keep_cancel_request=True,
            )
    except (IllegalTransition, InvalidVerdict):
        return False
    except JobError:
        log.warning("evidence.not_used", job_id=str(job.id), exc_info=True)
        return False
    return True
