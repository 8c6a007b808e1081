"""`/v1/jobs`: each view parses, calls one service or selector, and renders."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.authentication import IsAdmin, IsTenant, principal_of
from api.conditional_requests import conditional
from api.job_documents import event_document, job_document, poll_after
from api.negotiation import EventsNegotiation
from api.origin import origin_of
from api.query_strings import check_no_query, read_events, read_listing, read_wait
from api.resolution import ResolutionForm
from api.strict_forms import check_nothing_said, read_members
from api.submission import read_submission
from idempotency.http import idempotent, reservation
from jobs.ids import job_resource
from jobs.keyset import encode_cursor
from jobs.selectors import events_of, get_job, list_jobs, outputs_of
from jobs.services import cancel_job, erase_payload, redrive_job, resolve_job
from jobs.submission import Submission, submit_job

if TYPE_CHECKING:
    from uuid import UUID

    from django.http import HttpResponse
    from rest_framework.request import Request

    from jobs.models import Job


def _resource(job_id: UUID) -> str:
    """What the records of requests about this job call it. An erasure's own answer holds nothing to be erased, and names none."""
    return job_resource(job_id)


class JobsView(APIView):
    """Submit a job; list jobs."""

    @idempotent(required=True, validate=read_submission, store_errors=())
    def post(self, request: Request, *, validated: Submission) -> Response:
        """202 with the queued job. The key, the job and this answer are committed together."""
        principal, reserved = principal_of(request), reservation(request)
        job = submit_job(
            tenant_id=principal.tenant_id,
            mode=principal.mode,
            submission=validated,
            origin=origin_of(request),
            idempotency_record_id=reserved.record_id if reserved else None,
            idempotency_key=reserved.key if reserved else None,
        )
        if reserved:
            reserved.resource = job.resource
        headers = {"Location": f"/v1/jobs/{job.id}", **poll_after(job)}
        return Response(job_document(job), status=202, headers=headers)

    def get(self, request: Request) -> HttpResponse:
        """A page of jobs, newest first."""
        principal = principal_of(request)
        job_filter, before, limit = read_listing(request.query_params)
        page = list_jobs(
            tenant_id=principal.tenant_id,
            mode=principal.mode,
            job_filter=job_filter,
            before=before,
            limit=limit,
        )
        outputs = outputs_of(page.rows)
        cursor = encode_cursor(page.rows[-1].id) if page.has_older else None
        data = [job_document(job, outputs[job.id]) for job in page.rows]
        return conditional(request, {"data": data, "next_cursor": cursor}, _next_page(request, cursor=cursor))


class JobView(APIView):
    """One job."""

    def get(self, request: Request, job_id: UUID) -> HttpResponse:
        """The job as it is now; 304 where the client has it already. `?wait` is checked, and kept by the streams process."""
        principal = principal_of(request)
        read_wait(request.query_params)
        return answer_now(request, get_job(tenant_id=principal.tenant_id, mode=principal.mode, job_id=job_id))


def answer_now(request: Request, job: Job) -> HttpResponse:
    """The job as it is, or 304."""
    return conditional(request, job_document(job, outputs_of([job])[job.id]), poll_after(job))


class JobEventsView(APIView):
    """A job's history."""

    content_negotiation_class = EventsNegotiation

    def get(self, request: Request, job_id: UUID) -> HttpResponse:
        """A page of the events after `?after=SEQ`, oldest first."""
        principal = principal_of(request)
        after, limit = read_events(request.query_params)
        job = get_job(tenant_id=principal.tenant_id, mode=principal.mode, job_id=job_id)
        events = events_of(job=job, after=after, limit=limit + 1)
        next_after = events[limit - 1].seq if len(events) > limit else None
        data = [event_document(event) for event in events[:limit]]
        return conditional(
            request, {"data": data, "next_after": next_after}, _next_page(request, after=next_after)
        )


def _next_page(request: Request, **place: str | int | None) -> dict[str, str]:
    """The Link header that leads on from this page to the one that begins at this place; nothing where there is none."""
    if None in place.values():
        return {}
    query = urlencode({**request.query_params.dict(), **place})
    return {"Link": f'<{request.build_absolute_uri(request.path)}?{query}>; rel="next"'}


class JobCancelView(APIView):
    """The wish that a job should not happen."""

    @idempotent(required=False, subject=_resource)
    def post(self, request: Request, job_id: UUID) -> Response:
        """The job: canceled, or with `cancel_requested_at`, which its attempt honours while nothing has been done."""
        principal = principal_of(request)
        check_nothing_said(request)
        job = cancel_job(tenant_id=principal.tenant_id, mode=principal.mode, job_id=job_id)
        return _changed(job)


class JobRedriveView(APIView):
    """Another go for a job that failed for good or was canceled."""

    @idempotent(required=False, subject=_resource)
    def post(self, request: Request, job_id: UUID) -> Response:
        """The job, queued again: finished steps stay finished, and what was refused begins under a new downstream key."""
        principal = principal_of(request)
        check_nothing_said(request)
        job = redrive_job(tenant_id=principal.tenant_id, mode=principal.mode, job_id=job_id)
        return _changed(job)


class JobPayloadView(APIView):
    """What a client gave and got."""

    @idempotent(required=False)
    def delete(self, request: Request, job_id: UUID) -> Response:
        """The job without its payload: ids, key and states stay. A retry of the first request is told that it is gone."""
        check_nothing_said(request)
        principal = principal_of(request)
        job = erase_payload(tenant_id=principal.tenant_id, mode=principal.mode, job_id=job_id)
        return _changed(job)


class JobResolveView(APIView):
    """An operator's word on an unknown outcome."""

    permission_classes = [IsTenant, IsAdmin]

    @idempotent(required=False, subject=_resource)
    def post(self, request: Request, job_id: UUID) -> Response:
        """The job, gone where the operator's word sends it; who said what stays in its history."""
        principal = principal_of(request)
        check_no_query(request.query_params)
        said = read_members(ResolutionForm, request.data)
        by = f"api key {principal.api_key_id}"
        job = resolve_job(tenant_id=principal.tenant_id, mode=principal.mode, job_id=job_id, by=by, **said)
        return _changed(job)


def _changed(job: Job) -> Response:
    """The job as somebody's request left it."""
    return Response(job_document(job, outputs_of([job])[job.id]), headers=poll_after(job))
