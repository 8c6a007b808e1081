"""Exact search across tenants: jobs by any of their names, idempotency records by their key."""

from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from accounts.models import Mode, Tenant
from accounts.scopes import parse_scope, scope_column
from idempotency.models import IdempotencyRecord
from idempotency.request_headers import is_key
from jobs.ids import parse_job_resource
from jobs.models import Job
from jobs.queries.search import ended_ids_by_key, ids_by_reference, ids_by_request
from jobs.queries.steps import is_searchable


@dataclass(frozen=True, kw_only=True)
class FoundJob:
    """A job, and the kind of identifier by which it was found."""

    job: Job
    by: str


@dataclass(frozen=True)
class FoundRecord:
    """An idempotency record with its tenant and mode, and its job, if any."""

    record: IdempotencyRecord
    tenant_name: str
    mode: str
    job: Job | None


def find_jobs(text: str, *, limit: int = 50) -> list[FoundJob]:
    """Return the jobs with this id, idempotency key, request id or provider reference, newest first; `limit` by each name.

    The trimmed text must be the whole name. A text that no column can hold finds nothing. A request id is found if we generated
    it. Served by job_pkey, job_ended_by_key, idempotency_record_scope_key and job_step_by_reference.
    """
    text = text.strip()
    if not is_searchable(text):
        return []
    named = _job_ids([text])
    found_by: dict[UUID, str] = {}
    for by, job_ids in (
        ("job id", named),
        ("idempotency key", _ids_by_key(text, limit=limit)),
        ("request id", ids_by_request(request_id=named[0], limit=limit) if named else []),
        ("provider reference", ids_by_reference(text=text, limit=limit)),
    ):
        for job_id in job_ids:
            found_by.setdefault(job_id, by)
    jobs = Job.objects.filter(pk__in=found_by).order_by("-id")
    return [FoundJob(job=job, by=found_by[job.id]) for job in jobs]


def _ids_by_key(key: str, *, limit: int) -> list[UUID]:
    """Return the newest jobs of this key: those that have ended, and those that the key's records name."""
    current = _job_ids([record.resource for record, _ in _records_of(key, limit=limit) if record.resource])
    return sorted({*ended_ids_by_key(text=key, limit=limit), *current}, reverse=True)[:limit]


def find_records(key: str, *, limit: int) -> list[FoundRecord]:
    """Return what each tenant and mode has stored under exactly this key, without the stored responses, newest first.

    One statement per mode, which looks up each tenant's entry in idempotency_record_scope_key, and two for the findings.
    """
    found = _records_of(key, limit=limit)
    tenants = Tenant.objects.in_bulk([parse_scope(record.scope)[0] for record, _ in found])
    jobs = Job.objects.defer("params", "result", "error", "metadata")
    by_id = jobs.in_bulk(_job_ids([record.resource for record, _ in found if record.resource]))
    by_resource = {job.resource: job for job in by_id.values()}
    return [
        FoundRecord(record, tenants[parse_scope(record.scope)[0]].name, mode, by_resource.get(record.resource or ""))
        for record, mode in found
    ]


def _records_of(key: str, *, limit: int) -> list[tuple[IdempotencyRecord, str]]:
    """Return each tenant's record of the key, with its mode, newest first."""
    if not is_key(key):
        return []
    found: list[tuple[IdempotencyRecord, str]] = []
    for mode in Mode.values:
        scopes = Tenant.objects.annotate(scope=scope_column(mode)).values("scope")
        records = IdempotencyRecord.objects.filter(key=key, scope__in=scopes)
        records = records.defer("response", "members", "fingerprint").order_by("-id")[:limit]
        found += [(record, mode) for record in records]
    return sorted(found, key=lambda one: one[0].id, reverse=True)


def _job_ids(texts: list[str]) -> list[UUID]:
    """Return the job ids among the texts, each an id or "job/<id>"."""
    job_ids = []
    for text in texts:
        with suppress(ValueError):
            job_ids.append(parse_job_resource(text) or UUID(text))
    return job_ids
