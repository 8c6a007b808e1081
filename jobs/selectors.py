"""What can be asked about jobs. The tenant is always named; another's job is as missing as one that never was."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from django.db.models import BinaryField, Case, Q, Value, When
from django.db.models.functions import Now

from jobs.errors import ArtifactNotFound, JobErased, JobNotFound
from jobs.models import Job, JobArtifact, JobEvent, JobStep
from jobs.operations import ARTIFACT_NAME
from jobs.states import TERMINAL, State

if TYPE_CHECKING:
    from collections.abc import Collection

    from django.db.models import QuerySet

# How far an application's clock, which is in the ids, may be from the database's, which is in created_at.
CLOCK_SKEW = timedelta(minutes=5)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# An artifact whose time is over is gone for everybody, though the purge may not have come to it yet.
_KEPT = Q(expires_at=None) | Q(expires_at__gt=Now())


@dataclass(frozen=True, kw_only=True)
class JobFilter:
    """Which jobs to list. Each filter has its index: by state, operation or key; times are narrowed by the ids."""

    state: str | None = None
    operation: str | None = None
    idempotency_key: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


class JobOutputs(NamedTuple):
    """What attempts of a job made: effects in the world, and files."""

    effects: list[JobStep]
    artifacts: list[JobArtifact]


def get_job(*, tenant_id: int, mode: str, job_id: UUID) -> Job:
    """The tenant's job. Raises JobNotFound. One row by job_pkey."""
    job = Job.objects.filter(pk=job_id, tenant_id=tenant_id, mode=mode).first()
    if job is None:
        raise JobNotFound
    return job


def find_result(*, tenant_id: int, mode: str, job_id: UUID, operation: str) -> bytes | memoryview | None:
    """The encoded result of the tenant's job, if it has succeeded at this operation. One row by job_pkey."""
    found = Job.objects.filter(
        pk=job_id, tenant_id=tenant_id, mode=mode, operation=operation, state=State.SUCCEEDED
    )
    return found.values_list("result", flat=True).first()


def ended_without_effects(job_id: UUID) -> bool:
    """Whether the job has failed, or was canceled, with nothing done to the world. One row by job_pkey."""
    ended = Job.objects.filter(pk=job_id, state__in=[State.FAILED, State.CANCELED], done_effects=0)
    return ended.exists()


def state_of(*, tenant_id: int, mode: str, resource: str | None) -> State | None:
    """The state of the tenant's job that an idempotency record calls so ("job/<id>"); None where there is none. By job_pkey."""
    if resource is None or not resource.startswith("job/"):
        return None
    found = Job.objects.filter(pk=resource.removeprefix("job/"), tenant_id=tenant_id, mode=mode)
    state = found.values_list("state", flat=True).first()
    return None if state is None else State(state)


def unclaimed_reason(job_id: UUID) -> str:
    """Why a claim that just found nothing did so, as far as one look can tell. One row by job_pkey.

    `gone`, `settled` or `running`: the message was a duplicate. `blocked`: the job waits in its line. `waiting`: it is not due
    (any more), or of an operation that this worker does not know.
    """
    found = Job.objects.filter(pk=job_id).values_list("state", "concurrency_key").first()
    if found is None:
        return "gone"
    state, line = State(found[0]), found[1]
    if state is State.RUNNING or state.is_settled:
        return "running" if state is State.RUNNING else "settled"
    return "waiting" if line is None else "blocked"


def jobs_by_id(job_ids: Collection[UUID]) -> list[Job]:
    """Those of the jobs that there are, whosever they are: for requests that were let in to them. Rows by job_pkey."""
    return list(Job.objects.filter(pk__in=job_ids))


def list_jobs(*, tenant_id: int, mode: str, wanted: JobFilter, before: UUID | None, limit: int) -> list[Job]:
    """Up to `limit` of the tenant's jobs, newest first, older than the job `before`.

    A page stays right while jobs arrive: the place is an id, not a count. Served by job_list, job_list_by_state,
    job_list_by_operation_state or job_list_by_key: what is read is as long as the page (as many for each state, where an
    operation is asked for in any), and, where a time is asked for, the jobs of the minutes by which clocks may differ.
    """
    jobs = Job.objects.filter(tenant_id=tenant_id, mode=mode)
    for field in ("state", "operation", "idempotency_key"):
        value = getattr(wanted, field)
        if value is not None:
            jobs = jobs.filter(**{field: value})
    if wanted.created_after is not None:
        jobs = jobs.filter(
            created_at__gt=wanted.created_after, id__gte=first_id(wanted.created_after, -CLOCK_SKEW)
        )
    if wanted.created_before is not None:
        jobs = jobs.filter(
            created_at__lt=wanted.created_before, id__lt=first_id(wanted.created_before, CLOCK_SKEW)
        )
    if before is not None:
        jobs = jobs.filter(id__lt=before)
    if wanted.operation is not None and wanted.state is None and wanted.idempotency_key is None:
        # Where each operation's jobs stand by their states, the newest of all are among the newest of each.
        first, *others = [jobs.filter(state=state).order_by("-id")[:limit] for state in State]
        jobs = first.union(*others, all=True)
    return list(jobs.order_by("-id")[:limit])


def count_jobs_between(*, tenant_id: int, mode: str, start: datetime, end: datetime) -> int:
    """How many of the tenant's jobs were created from `start` to before `end`. Served by job_list, as long as the period."""
    return _created_between(tenant_id, mode, start, end).count()


def jobs_between(
    *,
    tenant_id: int,
    mode: str,
    start: datetime,
    end: datetime,
    after: UUID | None,
    results_of: str | None,
    limit: int,
) -> list[tuple[Any, ...]]:
    """Up to `limit` of the tenant's jobs that were created from `start` to before `end`, oldest first, after the job `after`.

    Each as id, operation, state, created_at, finished_at, attempt and the encoded result, if its operation is `results_of`.
    Served by job_list, read backwards: as much is read as is returned, and the jobs of the minutes by which clocks may differ.
    """
    jobs = _created_between(tenant_id, mode, start, end)
    if after is not None:
        jobs = jobs.filter(id__gt=after)
    result = Case(
        When(operation=results_of, state=State.SUCCEEDED, then="result"),
        default=Value(None),
        output_field=BinaryField(),
    )
    rows = jobs.order_by("id").values_list(
        "id", "operation", "state", "created_at", "finished_at", "attempt", result
    )
    return list(rows[:limit])


def has_room(*, tenant_id: int, mode: str, limit: int) -> bool:
    """Whether fewer than `limit` of the tenant's jobs are queued. Reads at most `limit` entries of job_list_by_state."""
    queued = Job.objects.filter(tenant_id=tenant_id, mode=mode, state=State.QUEUED)
    return not queued.order_by()[limit - 1 : limit].exists()


def outputs_of(jobs: Collection[Job]) -> dict[UUID, JobOutputs]:
    """What each of these jobs made, in the order of its beginnings. Two statements; none where none was claimed."""
    claimed = [job.id for job in jobs if job.attempt > 0]
    made = {job.id: JobOutputs([], []) for job in jobs}
    if claimed:
        effects = JobStep.objects.filter(job_id__in=claimed, kind=JobStep.Kind.EFFECT)
        for step in effects.order_by("first_started_at"):
            made[step.job_id].effects.append(step)
        for artifact in artifacts_of(claimed):
            made[artifact.job_id].artifacts.append(artifact)
    return made


def artifacts_of(job_ids: Collection[UUID]) -> list[JobArtifact]:
    """The artifacts of these jobs that can be downloaded, in the order in which they were made. Served by their primary key."""
    return list(JobArtifact.objects.filter(_KEPT, job_id__in=job_ids).order_by("created_at", "name"))


def get_artifact(*, tenant_id: int, mode: str, job_id: UUID, name: str) -> JobArtifact:
    """The artifact of the tenant's job. One row by job_artifact_pkey.

    Raises JobNotFound, JobErased where the job's payload was erased, and ArtifactNotFound for what it has not, or has no more.
    """
    if not ARTIFACT_NAME.fullmatch(name):
        raise ArtifactNotFound
    mine = JobArtifact.objects.filter(_KEPT, job__tenant_id=tenant_id, job__mode=mode)
    artifact = mine.filter(job_id=job_id, name=name).first()
    if artifact is None:
        job = get_job(tenant_id=tenant_id, mode=mode, job_id=job_id)
        raise ArtifactNotFound if job.erased_at is None else JobErased(job.resource)
    return artifact


def events_of(*, job: Job, after: int, limit: int) -> list[JobEvent]:
    """Up to `limit` of the job's events after that number, oldest first: gap-free and in the order of commits.

    Served by its primary key.
    """
    return list(JobEvent.objects.filter(job_id=job.id, seq__gt=after).order_by("seq")[:limit])


def filter_ended(resources: Collection[str]) -> set[str]:
    """Those of the resources ("job/<id>") that have ended or are gone; `unknown` has not. For `idempotency`."""
    ids = {
        UUID(resource.removeprefix("job/")): resource for resource in resources if resource.startswith("job/")
    }
    going_on = Job.objects.filter(pk__in=ids).exclude(state__in=TERMINAL).values_list("pk", flat=True)
    return {*resources} - {ids[job_id] for job_id in going_on}


def _created_between(tenant_id: int, mode: str, start: datetime, end: datetime) -> QuerySet[Job]:
    """The tenant's jobs of the period; the ids narrow it, the instants decide."""
    return Job.objects.filter(
        tenant_id=tenant_id,
        mode=mode,
        created_at__gte=start,
        created_at__lt=end,
        id__gte=first_id(start, -CLOCK_SKEW),
        id__lt=first_id(end, CLOCK_SKEW),
    )


def first_id(instant: datetime, skew: timedelta) -> UUID:
    """The smallest UUIDv7 of that millisecond, moved by the skew (RFC 9562 §5.7); the instant may be the calendar's last."""
    milliseconds = (instant - _EPOCH + skew) // timedelta(milliseconds=1)
    return UUID(int=min(max(0, milliseconds), 2**48 - 1) << 80)
