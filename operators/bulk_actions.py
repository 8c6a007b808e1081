"""Bulk actions: cancel, redrive, resolve or release the keys of all jobs that match a filter. Preview, start, stop.

The maintenance worker carries them out (bulk_worker.py). Jobs accepted after the start are not included.
"""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from accounts import audit
from jobs.ids import highest_id, lowest_id
from jobs.models import BulkAction, Job, JobStep
from jobs.payloads import printable
from jobs.queries.search import count_matching_jobs, lock_bulk_action
from jobs.selectors import JobFilter
from jobs.services import verdict_errors
from jobs.states import TERMINAL, State
from operators.job_actions import require_note

# A preview counts up to 10,000 jobs, above which the exact number does not matter, among a bounded number of candidates.
MAX_COUNT, _MAX_CANDIDATES = 10_000, 100_000
_STATES = {
    BulkAction.Action.CANCEL: {State.QUEUED, State.RUNNING},
    BulkAction.Action.REDRIVE: {State.FAILED, State.CANCELED},
    BulkAction.Action.RESOLVE: {State.UNKNOWN},
    BulkAction.Action.RELEASE: set(TERMINAL),
}


@dataclass(frozen=True)
class Preview:
    """How many jobs match now. `has_more`: at least so many."""

    count: int
    has_more: bool

    def __str__(self) -> str:
        return f"{self.count:,}{'+' if self.has_more else ''}"


def preview(job_filter: JobFilter) -> Preview:
    """Count the matching jobs in one statement. Raises ValueError if the filter has no state."""
    require_state(job_filter)
    bounds = {
        "first_id": job_filter.created_from and lowest_id(job_filter.created_from),
        "last_id": job_filter.created_before and highest_id(job_filter.created_before),
    }
    count, more = count_matching_jobs({**asdict(job_filter), **bounds}, examined=_MAX_CANDIDATES)
    return Preview(min(count, MAX_COUNT), has_more=more or count > MAX_COUNT)


def start_bulk_action(
    *,
    action: BulkAction.Action,
    job_filter: JobFilter,
    actor: str,
    note: str,
    verdict: JobStep.State | None = None,
    then: State | None = None,
) -> BulkAction:
    """Start the action for all jobs that match now. One audit entry holds the filter.

    verdict, then: only for a resolve, as in `services.resolve_job`; it applies to jobs with one open effect. Raises ValueError
    for a blank note, a state that the action does not allow, and a missing or forbidden verdict.
    """
    note, state = require_note(note), require_state(job_filter)
    if state not in _STATES[action]:
        raise ValueError(f"The action {action} does not apply to jobs that are {state}.")
    if (action is BulkAction.Action.RESOLVE) != (verdict is not None and then is not None):
        raise ValueError("A resolve, and no other action, needs a verdict and the next state of the jobs.")
    if verdict is not None and (errors := verdict_errors(verdict=verdict, then=then)):
        raise ValueError(" ".join(errors.values()))
    newest = Job.objects.order_by("-id").values_list("id", flat=True).first()
    options = {name: str(value) for name, value in (("verdict", verdict), ("then", then)) if value is not None}
    with transaction.atomic():
        bulk = BulkAction.objects.create(
            action=action,
            selection=_filter_to_json(job_filter),
            resolution=options,
            note=printable(note),
            by=actor,
            until=newest or UUID(int=0),
        )
        details = {"action": str(action), "filter": bulk.selection, **options}
        audit.record(actor=actor, action="bulk.start", subject=f"bulk/{bulk.id}", note=note, details=details)
    return bulk


def stop_bulk_action(*, bulk_id: int, actor: str, note: str = "") -> bool:
    """Stop the action; jobs that it has changed stay changed. Audited. Return False if it has finished or does not exist."""
    with transaction.atomic():
        bulk = lock_bulk_action(bulk_id)
        if bulk is None:
            return False
        BulkAction.objects.filter(pk=bulk_id).update(finished_at=Now(), is_stopped=True)
        details = {"changed": bulk.changed, "refused": bulk.refused}
        audit.record(actor=actor, action="bulk.stop", subject=f"bulk/{bulk_id}", note=note, details=details)
    return True


def filter_of(bulk: BulkAction) -> JobFilter:
    """Return the action's filter."""
    fields = dict(bulk.selection)
    for name in ("created_from", "created_before"):
        if name in fields:
            fields[name] = datetime.fromisoformat(fields[name])
    return JobFilter(**fields)


def require_state(job_filter: JobFilter) -> State:
    """Return the filter's state. Raise ValueError if it has none."""
    if job_filter.state is None:
        raise ValueError("Choose a state first: it decides which actions are possible.")
    return State(job_filter.state)


def _filter_to_json(job_filter: JobFilter) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(job_filter).items()
        if value is not None
    }
