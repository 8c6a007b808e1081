"""The Celery task that carries out bulk actions on the maintenance worker.

It visits the jobs in the order of their ids. Each job is one transaction: the service that acts on one job, the cursor and the
count. A crash leaves each job either changed or untouched, and the next run continues after the cursor. Two workers take
turns by the row lock of the bulk action, so that no job is visited twice. A job that no longer matches the filter is refused.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from uuid import UUID

import structlog
from celery import shared_task
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.models.functions import Now

from idempotency.errors import IdempotencyError
from idempotency.key_lifetime import release_key
from jobs import services
from jobs.errors import JobError
from jobs.models import BulkAction, Job, JobStep
from jobs.queries.search import lock_bulk_action
from jobs.selectors import JobFilter, filter_jobs
from jobs.states import State
from operators.bulk_actions import filter_of
from operators.job_actions import event_data, owner_of
from operators.job_detail import get_record, open_effects
from workers.batches import BatchCounts, interleave_batches
from workers.tasks import IN_TIME

log = structlog.get_logger(__name__)

# Jobs that one step changes, and rows among which it looks for them.
_STEP_JOBS, _STEP_ROWS = 100, 5_000
_NO_MATCH, _NO_KEY, _SEVERAL_EFFECTS, _DATABASE_REFUSED = (
    "The job no longer matches the filter.",
    "The job has no idempotency key of its own.",
    "Several effects of the job have an unknown outcome.",
    "The database refused the change.",
)


@dataclass(frozen=True)
class Counts(BatchCounts):
    """Jobs that were changed and refused."""

    changed: int = 0
    refused: int = 0


@shared_task(name="operators.bulk", acks_late=False, **IN_TIME)
def run_bulk_actions() -> None:
    """Run the started bulk actions for BULK_BUDGET_SECONDS; the next tick continues."""
    run_once(seconds=settings.BULK_BUDGET_SECONDS)


def run_once(*, seconds: float | None = None) -> Counts:
    """Run the started bulk actions until all are finished or the time is over; None means no limit."""
    counts = sum(interleave_batches(steps(), seconds=seconds), start=Counts())
    if not counts.is_empty:
        log.info("bulk", **asdict(counts))
    return counts


def steps() -> Iterator[Counts]:
    """Run the started bulk actions, oldest first, in steps of at most 100 jobs, until none is left."""
    while (bulk := BulkAction.objects.filter(finished_at=None).order_by("id").first()) is not None:
        yield _step(bulk)


def _step(bulk: BulkAction) -> Counts:
    """Visit the next jobs after the cursor. The rows that are read are bounded, however few of them match."""
    job_filter, rest = filter_of(bulk), Job.objects.filter(id__gt=bulk.cursor, id__lte=bulk.until)
    ids = rest.order_by("id").values_list("id", flat=True)
    end = next(iter(ids[_STEP_ROWS - 1 : _STEP_ROWS]), None)
    matching = filter_jobs(job_filter).filter(id__gt=bulk.cursor, id__lte=end or bulk.until)
    job_ids = list(matching.order_by("id").values_list("id", flat=True)[:_STEP_JOBS])
    counts = sum((_visit(bulk.id, job_filter, job_id) for job_id in job_ids), start=Counts())
    if len(job_ids) < _STEP_JOBS:
        _move_cursor(bulk.id, end)
    return counts


def _move_cursor(bulk_id: int, end: UUID | None) -> None:
    """Move the cursor past rows without further matches; None is the last row, which finishes the action."""
    unfinished = BulkAction.objects.filter(pk=bulk_id, finished_at=None)
    if end is None:
        unfinished.update(finished_at=Now())
    else:
        unfinished.filter(cursor__lt=end).update(cursor=end)


def _visit(bulk_id: int, job_filter: JobFilter, job_id: UUID) -> Counts:
    """Change or refuse the job, move the cursor to it and count it, in one transaction."""
    with transaction.atomic():
        bulk = lock_bulk_action(bulk_id)
        if bulk is None or bulk.cursor >= job_id:  # stopped, or visited by another worker
            return Counts()
        refusal = _refusal(bulk, job_filter, job_id)
        bulk.cursor = job_id
        if refusal is None:
            bulk.changed += 1
        else:
            bulk.refused[refusal] = bulk.refused.get(refusal, 0) + 1
        bulk.save(update_fields=["cursor", "changed", "refused"])
    return Counts(changed=int(refusal is None), refused=int(refusal is not None))


def _refusal(bulk: BulkAction, job_filter: JobFilter, job_id: UUID) -> str | None:
    """Change the job and return None, or return why it could not be changed."""
    try:
        with transaction.atomic():
            job = filter_jobs(job_filter).filter(pk=job_id).first()
            return _NO_MATCH if job is None else _act(bulk, job)
    except (JobError, IdempotencyError) as error:
        # The class's message, not the instance's: reasons are counted, and must not contain a job's id.
        return (type(error).__doc__ or type(error).__name__).partition("\n")[0]
    except DatabaseError:
        if not connection.is_usable():
            raise
        return _DATABASE_REFUSED


def _act(bulk: BulkAction, job: Job) -> str | None:
    """Act on the job as its own page does, but without an audit entry per job. Return a refusal, if any."""
    data = event_data(bulk.by, bulk.note, bulk=str(bulk.id))
    match BulkAction.Action(bulk.action):
        case BulkAction.Action.CANCEL:
            services.cancel_job(**owner_of(job), event_data=data)
        case BulkAction.Action.REDRIVE:
            services.redrive_job(**owner_of(job), event_data=data)
        case BulkAction.Action.RESOLVE:
            effects = open_effects(job.id)
            if len(effects) != 1:
                return _SEVERAL_EFFECTS
            services.resolve_job(
                **owner_of(job),
                step=effects[0].name,
                verdict=JobStep.State(bulk.resolution["verdict"]),
                then=State(bulk.resolution["then"]),
                note=bulk.note,
                by=bulk.by,
            )
        case BulkAction.Action.RELEASE:
            record = get_record(job)
            if record is None or record.resource != job.resource:
                return _NO_KEY
            release_key(record_id=record.id, owner=record.owner)
    return None
