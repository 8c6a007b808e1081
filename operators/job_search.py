"""From whatever somebody on call has in hand to the job: exact, across tenants, in a few index look-ups."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from jobs.ids import parse_job_resource
from jobs.models import Job
from jobs.queries.search import ids_by_key, ids_by_reference, ids_by_request
from jobs.queries.steps import is_searchable


@dataclass(frozen=True, kw_only=True)
class FoundJob:
    """A job, and by which of its names it was found."""

    job: Job
    by: str


def find_jobs(text: str, *, limit: int = 50) -> list[FoundJob]:
    """The jobs with this id, idempotency key, request id or provider reference, newest first; at most `limit` by each name.

    Nothing is guessed: the text, trimmed, is the whole name. One that no column can hold finds nothing. Five statements;
    served by job_pkey, job_list_by_key, job_by_request_id and job_step_by_reference.
    """
    text = text.strip()
    if not is_searchable(text):
        return []
    named: dict[UUID, str] = {}
    for by, found in (
        ("job id", _as_id(text)),
        ("idempotency key", ids_by_key(text=text, limit=limit)),
        ("request id", ids_by_request(text=text, limit=limit)),
        ("provider reference", ids_by_reference(text=text, limit=limit)),
    ):
        for job_id in found:
            named.setdefault(job_id, by)
    jobs = Job.objects.filter(pk__in=named).order_by("-id")
    return [FoundJob(job=job, by=named[job.id]) for job in jobs]


def _as_id(text: str) -> list[UUID]:
    try:
        return [parse_job_resource(text) or UUID(text)]
    except ValueError:
        return []
