"""Read jobs. The tenant is a mandatory argument: for a job of another tenant the result is the same as for a missing job."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db.models import BinaryField, Case, Q, QuerySet, Value, When
from django.db.models.functions import Now

from jobs.errors import ArtifactNotFound, JobErased, JobNotFound
from jobs.ids import highest_id, lowest_id, parse_job_resource
from jobs.keyset import Page, page_by_id
from jobs.models import Job, JobArtifact, JobEvent
from jobs.operations import ARTIFACT_NAME, JobSummary
from jobs.payloads import decode_payload
from jobs.queries.read import ArtifactSummary, EffectSummary, read_job, read_outputs
from jobs.states import TERMINAL, State

# An expired artifact is gone for every reader, even before the purge has removed it.
_NOT_EXPIRED = Q(expires_at=None) | Q(expires_at__gt=Now())


@dataclass(frozen=True, kw_only=True)
class JobFilter:
    """Which jobs a list or a bulk action covers; None: any."""

    tenant_id: int | None = None
    mode: str | None = None
    state: str | None = None
    operation: str | None = None
    priority: int | None = None
    idempotency_key: str | None = None
    error_code: str | None = None
    error_cause: str | None = None
    created_after: datetime | None = None  # exclusive
    created_from: datetime | None = None  # inclusive
    created_before: datetime | None = None  # exclusive


class JobOutputs(NamedTuple):
    """What the attempts of a job produced."""

    effects: list[EffectSummary]
    artifacts: list[ArtifactSummary]


def get_job(*, tenant_id: int, mode: str, job_id: UUID) -> Job:
    """Return the tenant's job. Raises JobNotFound. One row by job_pkey."""
    job = read_job(tenant_id=tenant_id, mode=mode, job_id=job_id)
    if job is None:
        raise JobNotFound
    return job


def find_result(*, tenant_id: int, mode: str, job_id: UUID, operation: str) -> bytes | memoryview | None:
    """Return the encoded result of the tenant's job if it has succeeded at this operation. One row by job_pkey."""
    succeeded = Job.objects.filter(
        pk=job_id, tenant_id=tenant_id, mode=mode, operation=operation, state=State.SUCCEEDED
    )
    return succeeded.values_list("result", flat=True).first()


def ended_without_effects(*, tenant_id: int, mode: str, job_id: UUID) -> bool:
    """Return whether the tenant's job has failed or was canceled and none of its effects remains. One row by job_pkey."""
    jobs = Job.objects.filter(pk=job_id, tenant_id=tenant_id, mode=mode)
    return jobs.filter(state__in=[State.FAILED, State.CANCELED], done_effects=0).exists()


def state_of(*, tenant_id: int, mode: str, resource: str | None) -> State | None:
    """Return the state of the tenant's job that an idempotency record names; None where there is none. By job_pkey."""
    job_id = parse_job_resource(resource)
    if job_id is None:
        return None
    jobs = Job.objects.filter(pk=job_id, tenant_id=tenant_id, mode=mode)
    state = jobs.values_list("state", flat=True).first()
    return None if state is None else State(state)


def unclaimed_reason(job_id: UUID) -> str:
    """Return the reason why a claim matched no row, according to the job's row now. Reads one row by job_pkey.

    `gone`, `settled` or `running`: the message was a duplicate. `blocked`: the job has a concurrency key. `waiting`: it is not
    due, or this worker does not know its operation.
    """
    row = Job.objects.filter(pk=job_id).values_list("state", "concurrency_key").first()
    if row is None:
        return "gone"
    state, concurrency_key = State(row[0]), row[1]
    if state.is_settled:
        return "settled"
    if state is State.RUNNING:
        return "running"
    return "waiting" if concurrency_key is None else "blocked"


def jobs_by_id(job_ids: Collection[UUID]) -> list[Job]:
    """Return the jobs that exist, of any tenant: for requests that were authorized before. Rows by job_pkey."""
    return list(Job.objects.filter(pk__in=job_ids))


def filter_jobs(job_filter: JobFilter) -> QuerySet[Job]:
    """Return the jobs that the filter covers, of any tenant unless it names one, in no order.

    Times are narrowed by ids as well, so that an index that ends with the id serves them.
    """
    named = {name: value for name, value in vars(job_filter).items() if value is not None}
    jobs = Job.objects.filter(**{name: value for name, value in named.items() if not name.startswith("created_")})
    if (job_filter.error_code or job_filter.error_cause) and job_filter.state is None:
        # Only these have an error, and only these states have an index across tenants.
        jobs = jobs.filter(state__in=[State.FAILED, State.UNKNOWN])
    if (after := job_filter.created_after) is not None:
        jobs = jobs.filter(created_at__gt=after, id__gte=lowest_id(after))
    if (start := job_filter.created_from) is not None:
        jobs = jobs.filter(created_at__gte=start, id__gte=lowest_id(start))
    if (end := job_filter.created_before) is not None:
        jobs = jobs.filter(created_at__lt=end, id__lt=highest_id(end))
    return jobs


def list_jobs(*, tenant_id: int, mode: str, job_filter: JobFilter, before: UUID | None, limit: int) -> Page[Job]:
    """Return up to `limit` of the tenant's jobs, newest first, older than the job `before`.

    Served by job_list, job_list_by_state, job_list_by_operation_state or job_list_by_key. Reads about as many rows as it
    returns. If
    the filter has an operation but no state, it reads that number for each state. A time filter also reads the rows of the
    clock skew.
    """
    jobs = filter_jobs(replace(job_filter, tenant_id=tenant_id, mode=mode))
    if job_filter.operation and not (job_filter.state or job_filter.idempotency_key):
        # The index orders an operation's jobs within each state: merge the newest of each.
        return page_by_id(*(jobs.filter(state=state) for state in State), limit=limit, older_than=before)
    return page_by_id(jobs, limit=limit, older_than=before)


def count_jobs_between(*, tenant_id: int, mode: str, start: datetime, end: datetime) -> int:
    """Return how many of the tenant's jobs were created from `start` to before `end`. Reads that part of job_list."""
    period = JobFilter(tenant_id=tenant_id, mode=mode, created_from=start, created_before=end)
    return filter_jobs(period).count()


def jobs_between(
    *, tenant_id: int, mode: str, start: datetime, end: datetime, after: UUID | None, results_of: str | None, limit: int
) -> list[JobSummary]:
    """Return up to `limit` of the tenant's jobs created from `start` to before `end`, oldest first, after the job `after`.

    Only succeeded jobs of the operation `results_of` carry their result. Served by job_list, read backwards: reads as many rows
    as it returns, and those of the minutes of clock skew.
    """
    period = JobFilter(tenant_id=tenant_id, mode=mode, created_from=start, created_before=end)
    jobs = filter_jobs(period)
    if after is not None:
        jobs = jobs.filter(id__gt=after)
    result = Case(
        When(operation=results_of, state=State.SUCCEEDED, then="result"),
        default=Value(None),
        output_field=BinaryField(),
    )
    rows = jobs.order_by("id").values_list("id", "operation", "state", "created_at", "finished_at", "attempt", result)
    return [
        JobSummary(*[*columns, None if payload is None else decode_payload(payload)])
        for *columns, payload in rows[:limit]
    ]


def has_room(*, tenant_id: int, mode: str, limit: int) -> bool:
    """Return whether fewer than `limit` of the tenant's jobs are queued. Reads at most `limit` entries of job_list_by_state."""
    queued = Job.objects.filter(tenant_id=tenant_id, mode=mode, state=State.QUEUED)
    return not queued.order_by()[limit - 1 : limit].exists()


def outputs_of(jobs: Collection[Job]) -> dict[UUID, JobOutputs]:
    """Return what each job produced, in the order of creation. One round trip; none where no job was ever claimed."""
    claimed = [job.id for job in jobs if job.attempt > 0]
    outputs = {job.id: JobOutputs([], []) for job in jobs}
    if claimed:
        effects, artifacts = read_outputs(claimed)
        for effect in effects:
            outputs[effect.job_id].effects.append(effect)
        for artifact in artifacts:
            outputs[artifact.job_id].artifacts.append(artifact)
    return outputs


def artifacts_of(job_id: UUID) -> list[JobArtifact]:
    """Return the job's artifacts that can be downloaded, in the order of creation. Served by their primary key."""
    return list(JobArtifact.objects.filter(_NOT_EXPIRED, job_id=job_id).order_by("created_at", "name"))


def get_artifact(*, tenant_id: int, mode: str, job_id: UUID, name: str) -> JobArtifact:
    """Return the artifact of the tenant's job. Raises JobNotFound, JobErased, ArtifactNotFound. One row by job_artifact_pkey."""
    if not ARTIFACT_NAME.fullmatch(name):
        raise ArtifactNotFound
    artifacts = JobArtifact.objects.filter(_NOT_EXPIRED, job__tenant_id=tenant_id, job__mode=mode)
    artifact = artifacts.filter(job_id=job_id, name=name).first()
    if artifact is None:
        job = get_job(tenant_id=tenant_id, mode=mode, job_id=job_id)
        raise ArtifactNotFound if job.erased_at is None else JobErased(job.resource)
    return artifact


def events_of(*, job: Job, after: int, limit: int) -> list[JobEvent]:
    """Return up to `limit` of the job's events after that number, oldest first: gap-free, in commit order. By primary key."""
    return list(JobEvent.objects.filter(job_id=job.id, seq__gt=after).order_by("seq")[:limit])


def filter_ended(resources: Collection[str]) -> set[str]:
    """Return those of the resources whose jobs have ended or are gone; `unknown` has not ended. For `idempotency`."""
    ids = {job_id: resource for resource in resources if (job_id := parse_job_resource(resource)) is not None}
    live = Job.objects.filter(pk__in=ids).exclude(state__in=TERMINAL).values_list("pk", flat=True)
    return {*resources} - {ids[job_id] for job_id in live}
