"""Record a provider's event about an effect in the job's history, and use it to resolve an unknown job.

An event may arrive late, twice or never. If it arrives before the outcome becomes unknown, the sweep finds it once the job is
unknown. If it arrives after that, the job is resolved in the same transaction.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from django.db import transaction

from idempotency.queries import lock_record
from jobs.errors import IllegalTransition, InvalidVerdict, JobError
from jobs.models import Job, JobStep
from jobs.queries.events import append_provider_event, find_resolvable_jobs
from jobs.services import lock_concurrency_queue, resolve_job
from jobs.states import State

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class ProviderEvent:
    """A provider reports that the effect with this downstream key took place, and its result."""

    job_id: UUID
    source: str
    message_id: str
    type: str
    key: str
    result: Any


def record_provider_event(event: ProviderEvent) -> None:
    """Add the event to the job's history; queue the job again if it is unknown because of just this effect.

    Part of the caller's transaction. Does nothing if there is no such job. Locks the record, the concurrency queue, the job.
    """
    job = Job.objects.filter(pk=event.job_id).first()
    if job is None:
        return
    if job.idempotency_record_id is not None:
        lock_record(job.idempotency_record_id)
    lock_concurrency_queue(job)
    data = {name: value for name, value in vars(event).items() if name != "job_id"}
    append_provider_event(job_id=job.id, data=data)
    open_steps = JobStep.objects.filter(job_id=job.id, state=JobStep.State.STARTED)
    step = open_steps.filter(downstream_key=event.key).first()
    if step is not None:
        _resolve(job, step.name, event)


def resolve_from_events(*, limit: int) -> int:
    """Resolve unknown jobs whose history already contains a matching event; return their number. Uses one transaction per job."""
    resolved = 0
    for found in find_resolvable_jobs(limit=limit):
        event = ProviderEvent(job_id=found.job_id, **found.data)
        resolved += _resolve(Job.objects.get(pk=found.job_id), found.step, event)
    return resolved


def _resolve(job: Job, step: str, event: ProviderEvent) -> bool:
    """Queue the unknown job again; return False if it is no longer unknown, because of another event or an operator."""
    try:
        # A savepoint: a refusal must not undo what the caller has written.
        with transaction.atomic():
            resolve_job(
                tenant_id=job.tenant_id,
                mode=job.mode,
                job_id=job.id,
                step=step,
                verdict=JobStep.State.DONE,
                then=State.QUEUED,
                note=f"{event.type}, event {event.message_id}",
                by=f"provider {event.source}",
                result=event.result,
                keep_cancel_request=True,
            )
    except (IllegalTransition, InvalidVerdict):
        return False
    except JobError:
        log.warning("provider_event.not_used", job_id=str(job.id), exc_info=True)
        return False
    return True
