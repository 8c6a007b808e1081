"""One act on all jobs of a filter: cancel, redrive, resolve, release. A row holds how far it has come, and what came of it.

The maintenance worker walks over the jobs by their ids, in slices. Each job is a transaction of its own: the act, through
the service that acts on one, the mark and the count. Dying anywhere leaves each job either done or untouched, and the next
slice goes on behind the last one that is done. Two that walk at once take turns by the row's lock, and no job is met twice.
Jobs accepted after the start are left alone, as are those that do not fit the filter any more when their turn comes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import DatabaseError, connection, transaction
from django.db.models.functions import Now

from accounts import audit
from idempotency.errors import IdempotencyError
from idempotency.key_lifetime import release_key
from idempotency.models import IdempotencyRecord
from jobs import services
from jobs.errors import JobError
from jobs.failures import printable
from jobs.ids import highest_id, lowest_id
from jobs.models import BulkAction, Job, JobStep
from jobs.queries.bulk import count_wanted, lock_bulk
from jobs.selectors import JobFilter, filter_jobs
from jobs.states import TERMINAL, State
from jobs.verdicts import verdict_errors
from operators.inspection import steps_in_doubt
from operators.job_actions import noted

if TYPE_CHECKING:
    from collections.abc import Iterator

# A preview counts so far, of so many candidates; nobody tells 10,001 from a million by heart.
COUNTED, _EXAMINED = 10_000, 100_000
# Jobs that one step acts upon, and rows among which it looks for them.
_STEP_JOBS, _STEP_ROWS = 100, 5_000
_FITS = {
    BulkAction.Action.CANCEL: {State.QUEUED, State.RUNNING},
    BulkAction.Action.REDRIVE: {State.FAILED, State.CANCELED},
    BulkAction.Action.RESOLVE: {State.UNKNOWN},
    BulkAction.Action.RELEASE: set(TERMINAL),
}
_MOVED, _NO_KEY, _SEVERAL, _REFUSED = (
    "The job does not fit the filter any more.",
    "The job has no idempotency key of its own.",
    "Several effects of the job are in doubt.",
    "The database refused the change.",
)


@dataclass(frozen=True)
class Preview:
    """How many jobs an act would meet now."""

    count: int
    more: bool  # at least so many

    def __str__(self) -> str:
        return f"{self.count:,}{'+' if self.more else ''}"


@dataclass(frozen=True)
class Counts:
    """What a step did."""

    changed: int = 0
    refused: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.changed + other.changed, self.refused + other.refused)


def preview(job_filter: JobFilter) -> Preview:
    """How many jobs fit, counted up to 10,000 among at most 100,000 candidates. One statement; `state` must be named."""
    _state_of(job_filter)
    bounds = {
        "first_id": job_filter.created_from and lowest_id(job_filter.created_from),
        "last_id": job_filter.created_before and highest_id(job_filter.created_before),
    }
    count, more = count_wanted({**asdict(job_filter), **bounds}, examined=_EXAMINED)
    return Preview(min(count, COUNTED), more=more or count > COUNTED)


def start_bulk(
    *,
    action: BulkAction.Action,
    job_filter: JobFilter,
    actor: str,
    note: str,
    verdict: JobStep.State | None = None,
    then: State | None = None,
) -> BulkAction:
    """The act is begun for every job that fits by now; the maintenance worker carries it out. Audited once, with the filter.

    verdict, then: of a resolve, as in `services.resolve_job`, for jobs with one effect in doubt. Raises ValueError for a
    blank note, an action that does not fit the state, and a resolve that does not say what it was.
    """
    note, state = noted(note), _state_of(job_filter)
    if state not in _FITS[action]:
        raise ValueError(f"A job that is {state} cannot be met by {action}.")
    if (action is BulkAction.Action.RESOLVE) != (verdict is not None and then is not None):
        raise ValueError(
            "A resolve, and nothing else, says what it was (verdict) and where the jobs go (then)."
        )
    if verdict is not None and (errors := verdict_errors(verdict=verdict, then=then)):
        raise ValueError(" ".join(errors.values()))
    newest = Job.objects.order_by("-id").values_list("id", flat=True).first()
    said = {name: str(value) for name, value in (("verdict", verdict), ("then", then)) if value is not None}
    with transaction.atomic():
        bulk = BulkAction.objects.create(
            action=action,
            selection=_as_json(job_filter),
            said=said,
            note=printable(note),
            by=actor,
            until=newest or UUID(int=0),
        )
        details = {"action": str(action), "filter": bulk.selection, **said}
        audit.record(actor=actor, action="bulk.start", subject=f"bulk/{bulk.id}", note=note, details=details)
    return bulk


def stop_bulk(*, bulk_id: int, actor: str, note: str = "") -> bool:
    """The act meets no further job; what it has done stays. Audited. False where it is over, or there is none."""
    with transaction.atomic():
        bulk = lock_bulk(bulk_id)
        if bulk is None:
            return False
        BulkAction.objects.filter(pk=bulk_id).update(finished_at=Now(), is_stopped=True)
        details = {"changed": bulk.changed, "refused": bulk.refused}
        audit.record(actor=actor, action="bulk.stop", subject=f"bulk/{bulk_id}", note=note, details=details)
    return True


def steps() -> Iterator[Counts]:
    """Carry out what was begun, the oldest first, a step of at most 100 jobs at a time, until nothing is left."""
    while (bulk := BulkAction.objects.filter(finished_at=None).order_by("id").first()) is not None:
        yield _step(bulk)


def _step(bulk: BulkAction) -> Counts:
    """The next jobs behind the mark. The rows that are looked at are bounded, however few of them fit."""
    job_filter, rest = _from_json(bulk.selection), Job.objects.filter(id__gt=bulk.cursor, id__lte=bulk.until)
    ids = rest.order_by("id").values_list("id", flat=True)
    end = next(iter(ids[_STEP_ROWS - 1 : _STEP_ROWS]), None)
    among = filter_jobs(job_filter).filter(id__gt=bulk.cursor, id__lte=end or bulk.until)
    found = list(among.order_by("id").values_list("id", flat=True)[:_STEP_JOBS])
    counts = sum((_meet(bulk.id, job_filter, job_id) for job_id in found), start=Counts())
    if len(found) < _STEP_JOBS:
        _move_mark(bulk.id, end)
    return counts


def _move_mark(bulk_id: int, end: UUID | None) -> None:
    """Behind rows none of which is left to meet; None: behind the last one, and the act is over."""
    open_ones = BulkAction.objects.filter(pk=bulk_id, finished_at=None)
    if end is None:
        open_ones.update(finished_at=Now())
    else:
        open_ones.filter(cursor__lt=end).update(cursor=end)


def _meet(bulk_id: int, job_filter: JobFilter, job_id: UUID) -> Counts:
    """The job is done or refused, the mark is on it, and it is counted: in one transaction."""
    with transaction.atomic():
        bulk = lock_bulk(bulk_id)
        if bulk is None or bulk.cursor >= job_id:  # stopped, or met by another worker
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
    """Why the job could not be acted upon; None where it was."""
    try:
        with transaction.atomic():
            job = filter_jobs(job_filter).filter(pk=job_id).first()
            return _MOVED if job is None else _act(bulk, job)
    except (JobError, IdempotencyError) as error:
        return (type(error).__doc__ or type(error).__name__).partition("\n")[0]
    except DatabaseError:
        if not connection.is_usable():
            raise
        return _REFUSED


def _act(bulk: BulkAction, job: Job) -> str | None:
    owner: dict[str, Any] = {"tenant_id": job.tenant_id, "mode": job.mode, "job_id": job.id}
    said = {"by": printable(bulk.by), "note": bulk.note, "bulk": str(bulk.id)}
    match BulkAction.Action(bulk.action):
        case BulkAction.Action.CANCEL:
            services.cancel_job(**owner, said=said)
        case BulkAction.Action.REDRIVE:
            services.redrive_job(**owner, said=said)
        case BulkAction.Action.RESOLVE:
            return _resolve(bulk, job, owner)
        case BulkAction.Action.RELEASE:
            return _release(job)
    return None


def _resolve(bulk: BulkAction, job: Job, owner: dict[str, Any]) -> str | None:
    in_doubt = steps_in_doubt(job.id)
    if len(in_doubt) != 1:
        return _SEVERAL
    verdict, then = JobStep.State(bulk.said["verdict"]), State(bulk.said["then"])
    services.resolve_job(
        **owner, step=in_doubt[0].name, verdict=verdict, then=then, note=bulk.note, by=bulk.by
    )
    return None


def _release(job: Job) -> str | None:
    if job.idempotency_record_id is None:
        return _NO_KEY
    kept = IdempotencyRecord.objects.filter(pk=job.idempotency_record_id, resource=job.resource)
    found = kept.values_list("id", "owner").first()
    if found is None:
        return _NO_KEY
    record_id, owner = found
    release_key(record_id=record_id, owner=owner)
    return None


def _state_of(job_filter: JobFilter) -> State:
    if job_filter.state is None:
        raise ValueError("Name the state of the jobs: each act fits some states alone.")
    return State(job_filter.state)


def _as_json(job_filter: JobFilter) -> dict[str, Any]:
    given = {name: value for name, value in asdict(job_filter).items() if value is not None}
    return {
        name: value.isoformat() if isinstance(value, datetime) else value for name, value in given.items()
    }


def _from_json(selection: dict[str, Any]) -> JobFilter:
    given = dict(selection)
    for name in ("created_from", "created_before"):
        if name in given:
            given[name] = datetime.fromisoformat(given[name])
    return JobFilter(**given)
