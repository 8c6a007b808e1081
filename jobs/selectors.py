"""Read jobs. The tenant is a mandatory argument: for a job of another tenant the result is the same as for a missing job."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from accounts.scopes import format_scope
from idempotency.key_lifetime import find_key
from jobs.errors import ArtifactNotFound, JobErased, JobNotFound
from jobs.ids import highest_id, lowest_id, parse_job_resource
from jobs.keyset import Page, page_by_id
from jobs.models import Job, JobArtifact, JobEvent
from jobs.operations import ARTIFACT_NAME, JobSummary
from jobs.payloads import decode_payload
from jobs.queries.read import ArtifactSummary, EffectSummary, read_job, read_outputs
from jobs.queries.tenant_jobs import count_jobs, newest_jobs, oldest_summaries, operations_of_tenant
from jobs.states import TERMINAL, State

# An expired artifact is gone for every reader, even before the purge has removed it.
_NOT_EXPIRED = Q(expires_at=None) | Q(expires_at__gt=Now())
# The conditions of a JobFilter's times, and of the ids that lie between them.
_LOOKUPS = {
    "created_after": "created_at__gt",
    "created_from": "created_at__gte",
    "created_before": "created_at__lt",
    "first_id": "id__gte",
    "last_id": "id__lt",
}


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
    values = {**vars(job_filter), **_ids_between(job_filter)}
    jobs = Job.objects.all()
    if job_filter.state == State.QUEUED and job_filter.tenant_id is None:
        # Between them, two indexes contain the queued jobs of all tenants.
        jobs = jobs.filter(Q(held=True) | Q(state=values.pop("state"), held=False))
    jobs = jobs.filter(**{_LOOKUPS.get(name, name): value for name, value in values.items() if value is not None})
    if (job_filter.error_code or job_filter.error_cause) and job_filter.state is None:
        # Only these have an error, and only these states have an index across tenants.
        jobs = jobs.filter(state__in=[State.FAILED, State.UNKNOWN])
    return jobs


def filter_by_index(job_filter: JobFilter) -> list[QuerySet[Job]]:
    """Return the jobs that the filter covers as disjoint querysets, each of which an index serves in the order of ids.

    Of a tenant, one for each mode, operation and state (job_list), because that index orders the ids of one kind.
    """
    if job_filter.tenant_id is None or job_filter.idempotency_key is not None:
        return [filter_jobs(job_filter)]
    modes = ["live", "test"] if job_filter.mode is None else [job_filter.mode]
    states = list(State) if job_filter.state is None else [job_filter.state]
    kinds = [
        replace(job_filter, mode=mode, operation=operation, state=state)
        for mode in modes
        for operation in _operations_in(job_filter, mode)
        for state in states
    ]
    return [filter_jobs(kind) for kind in kinds] or [Job.objects.none()]


def _operations_in(job_filter: JobFilter, mode: str) -> list[str]:
    if job_filter.operation is not None or job_filter.tenant_id is None:
        return [job_filter.operation] if job_filter.operation else []
    return operations_of_tenant(tenant_id=job_filter.tenant_id, mode=mode)


def _ids_between(job_filter: JobFilter) -> dict[str, UUID]:
    """Return the bounds of the ids (first_id inclusive, last_id exclusive) of jobs that were created in the filter's times."""
    start, end = job_filter.created_after or job_filter.created_from, job_filter.created_before
    first = {} if start is None else {"first_id": lowest_id(start)}
    return first if end is None else {**first, "last_id": highest_id(end)}


def list_jobs(*, tenant_id: int, mode: str, job_filter: JobFilter, before: UUID | None, limit: int) -> Page[Job]:
    """Return up to `limit` of the tenant's jobs, newest first, older than the job `before`.

    Served by job_list, see tenant_jobs.py. With a key: job_ended_by_key, and for the job that has not ended the key's record,
    which names it until then. A time filter also reads the rows of the clock skew.
    """
    job_filter = replace(job_filter, tenant_id=tenant_id, mode=mode)
    if job_filter.idempotency_key is not None:
        jobs = filter_jobs(job_filter)
        record = find_key(scope=format_scope(tenant_id=tenant_id, mode=mode), key=job_filter.idempotency_key)
        live_id = parse_job_resource(record.resource) if record else None
        live = jobs.none() if live_id is None else jobs.filter(pk=live_id, finished_at=None)
        return page_by_id(jobs.filter(finished_at__isnull=False), live, limit=limit, older_than=before)
    ids = _ids_between(job_filter)
    if before is not None:
        ids["last_id"] = min(before, ids.get("last_id", before))
    rows = newest_jobs({**vars(job_filter), **ids}, limit=limit + 1)
    return Page(rows[:limit], has_older=len(rows) > limit, has_newer=before is not None)


def count_jobs_between(*, tenant_id: int, mode: str, start: datetime, end: datetime) -> int:
    """Return how many of the tenant's jobs were created from `start` to before `end`. Reads that part of job_list."""
    period = JobFilter(tenant_id=tenant_id, mode=mode, created_from=start, created_before=end)
    return count_jobs({**vars(period), **_ids_between(period)})


def jobs_between(
    *, tenant_id: int, mode: str, start: datetime, end: datetime, after: UUID | None, results_of: str | None, limit: int
) -> list[JobSummary]:
    """Return up to `limit` of the tenant's jobs created from `start` to before `end`, oldest first, after the job `after`.

    Only succeeded jobs of the operation `results_of` carry their result. Served by job_list, read backwards.
    """
    period = JobFilter(tenant_id=tenant_id, mode=mode, created_from=start, created_before=end)
    ids = _ids_between(period)
    if after is not None:
        ids["first_id"] = UUID(int=after.int + 1)
    rows = oldest_summaries({**vars(period), **ids}, results_of=results_of, limit=limit)
    return [JobSummary(*[*columns, None if payload is None else decode_payload(payload)]) for *columns, payload in rows]


def has_room(*, tenant_id: int, mode: str, limit: int) -> bool:
    """Return whether fewer than `limit` of the tenant's jobs are queued. Reads at most `limit` entries of job_list."""
    return count_jobs({"tenant_id": tenant_id, "mode": mode, "state": State.QUEUED}, at_most=limit) < limit


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
