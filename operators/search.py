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
from jobs.queries.search import ids_by_key, ids_by_reference, ids_by_request
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

    The trimmed text must be the whole name. A text that no column can hold finds nothing. Five statements, served by
    job_pkey, job_list_by_key, job_by_request_id and job_step_by_reference.
    """
    text = text.strip()
    if not is_searchable(text):
        return []
    found_by: dict[UUID, str] = {}
    for by, job_ids in (
        ("job id", _job_ids([text])),
        ("idempotency key", ids_by_key(text=text, limit=limit)),
        ("request id", ids_by_request(text=text, limit=limit)),
        ("provider reference", ids_by_reference(text=text, limit=limit)),
    ):
        for job_id in job_ids:
            found_by.setdefault(job_id, by)
    jobs = Job.objects.filter(pk__in=found_by).order_by("-id")
    return [FoundJob(job=job, by=found_by[job.id]) for job in jobs]


def find_records(key: str, *, limit: int) -> list[FoundRecord]:
    """Return what each tenant and mode has stored under exactly this key, without the stored responses, newest first.

    One statement per mode, which looks up each tenant's entry in idempotency_record_scope_key, and two for the findings.
    """
    if not is_key(key):
        return []
    found: list[tuple[IdempotencyRecord, str]] = []
    for mode in Mode.values:
        scopes = Tenant.objects.annotate(scope=scope_column(mode)).values("scope")
        records = IdempotencyRecord.objects.filter(key=key, scope__in=scopes)
        records = records.defer("headers", "body", "members", "fingerprint").order_by("-id")[:limit]
        found += [(record, mode) for record in records]
    found.sort(key=lambda one: one[0].id, reverse=True)
    tenants = Tenant.objects.in_bulk([parse_scope(record.scope)[0] for record, _ in found])
    jobs = Job.objects.defer("params", "result", "error", "metadata")
    by_id = jobs.in_bulk(_job_ids([record.resource for record, _ in found if record.resource]))
    by_resource = {job.resource: job for job in by_id.values()}
    return [
        FoundRecord(record, tenants[parse_scope(record.scope)[0]].name, mode, by_resource.get(record.resource or ""))
        for record, mode in found
    ]


def _job_ids(texts: list[str]) -> list[UUID]:
    """Return the job ids among the texts, each an id or "job/<id>"."""
    job_ids = []
    for text in texts:
        with suppress(ValueError):
            job_ids.append(parse_job_resource(text) or UUID(text))
    return job_ids
