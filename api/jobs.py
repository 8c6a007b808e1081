"""`/v1/jobs`: each view parses, calls one service or selector, and renders."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode
from uuid import UUID

from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.authentication import IsAdmin, IsTenant, principal_of
from api.conditional_requests import conditional
from api.content_negotiation import EventsNegotiation
from api.forms import (
    EventsQuery,
    JobQuery,
    ResolutionForm,
    read_body,
    read_list_query,
    read_query,
    require_empty_request,
    require_no_query,
)
from api.job_documents import event_document, job_document, poll_after
from api.problems import current_request_id
from api.submission_form import read_submission
from foundation.spans import request_traceparent
from idempotency.http import idempotent, reservation
from jobs.ids import job_resource
from jobs.keyset import encode_cursor
from jobs.selectors import events_of, get_job, list_jobs, outputs_of
from jobs.services import cancel_job, erase_payload, redrive_job, resolve_job
from jobs.submission import Origin, Submission, submit_job

if TYPE_CHECKING:
    from jobs.models import Job


class JobsView(APIView):
    """Submit a job; list jobs."""

    @idempotent(required=True, validate=read_submission, store_errors=())
    def post(self, request: Request, *, validated: Submission) -> Response:
        """Return 202 with the queued job. Key, job and this response are committed together."""
        principal, reserved = principal_of(request), reservation(request)
        job = submit_job(
            tenant_id=principal.tenant_id,
            mode=principal.mode,
            submission=validated,
            origin=Origin(request_id=current_request_id() or None, traceparent=request_traceparent()),
            idempotency_record_id=reserved.record_id if reserved else None,
            idempotency_key=reserved.key if reserved else None,
        )
        if reserved:
            reserved.resource = job.resource
        headers = {"Location": f"/v1/jobs/{job.id}", **poll_after(job)}
        return Response(job_document(job), status=202, headers=headers)

    def get(self, request: Request) -> HttpResponse:
        """Return a page of jobs, newest first."""
        principal = principal_of(request)
        job_filter, before, limit = read_list_query(request.query_params)
        page = list_jobs(
            tenant_id=principal.tenant_id, mode=principal.mode, job_filter=job_filter, before=before, limit=limit
        )
        outputs = outputs_of(page.rows)
        cursor = encode_cursor(page.rows[-1].id) if page.has_older else None
        data = [job_document(job, outputs[job.id]) for job in page.rows]
        return conditional(request, {"data": data, "next_cursor": cursor}, _next_page(request, cursor=cursor))


class JobView(APIView):
    """Read one job."""

    def get(self, request: Request, job_id: UUID) -> HttpResponse:
        """Return the job, or 304. `?wait` is only checked here; the streams process waits."""
        principal = principal_of(request)
        read_query(JobQuery, request.query_params)
        return job_response(request, get_job(tenant_id=principal.tenant_id, mode=principal.mode, job_id=job_id))


def job_response(request: Request, job: Job) -> HttpResponse:
    """Return the job, or 304."""
    return conditional(request, job_document(job, outputs_of([job])[job.id]), poll_after(job))


class JobEventsView(APIView):
    """Read the history of a job."""

    content_negotiation_class = EventsNegotiation

    def get(self, request: Request, job_id: UUID) -> HttpResponse:
        """Return a page of the events after `?after=SEQ`, oldest first."""
        principal = principal_of(request)
        params = read_query(EventsQuery, request.query_params)
        after, limit = params["after"], params["limit"]
        job = get_job(tenant_id=principal.tenant_id, mode=principal.mode, job_id=job_id)
        events = events_of(job=job, after=after, limit=limit + 1)
        next_after = events[limit - 1].seq if len(events) > limit else None
        data = [event_document(event) for event in events[:limit]]
        return conditional(request, {"data": data, "next_after": next_after}, _next_page(request, after=next_after))


def _next_page(request: Request, **place: str | int | None) -> dict[str, str]:
    """Return the Link header to the next page, or nothing if this is the last."""
    if None in place.values():
        return {}
    query = urlencode({**request.query_params.dict(), **place})
    return {"Link": f'<{request.build_absolute_uri(request.path)}?{query}>; rel="next"'}


class JobCancelView(APIView):
    """Cancel a job, or request it."""

    @idempotent(required=False, subject=job_resource)
    def post(self, request: Request, job_id: UUID) -> Response:
        """Return the job: canceled, or with `cancel_requested_at`. A running job stops unless it has completed effects."""
        principal = principal_of(request)
        require_empty_request(request)
        job = cancel_job(tenant_id=principal.tenant_id, mode=principal.mode, job_id=job_id)
        return _changed(job)


class JobRedriveView(APIView):
    """Queue a failed or canceled job again."""

    @idempotent(required=False, subject=job_resource)
    def post(self, request: Request, job_id: UUID) -> Response:
        """Return the queued job. Finished steps stay finished; a refused effect starts under a new downstream key."""
        principal = principal_of(request)
        require_empty_request(request)
        job = redrive_job(tenant_id=principal.tenant_id, mode=principal.mode, job_id=job_id)
        return _changed(job)


class JobPayloadView(APIView):
    """Erase the payload of a job that has ended."""

    @idempotent(required=False)
    def delete(self, request: Request, job_id: UUID) -> Response:
        """Return the job without its payload. A retry of its first request gets 410."""
        require_empty_request(request)
        principal = principal_of(request)
        job = erase_payload(tenant_id=principal.tenant_id, mode=principal.mode, job_id=job_id)
        return _changed(job)


class JobResolveView(APIView):
    """Apply an operator's verdict on an unknown outcome."""

    permission_classes = [IsTenant, IsAdmin]

    @idempotent(required=False, subject=job_resource)
    def post(self, request: Request, job_id: UUID) -> Response:
        """Return the resolved job. Verdict, author and note are recorded as an event."""
        principal = principal_of(request)
        require_no_query(request)
        verdict = read_body(ResolutionForm, request.data)
        by = f"api key {principal.api_key_id}"
        job = resolve_job(tenant_id=principal.tenant_id, mode=principal.mode, job_id=job_id, by=by, **verdict)
        return _changed(job)


def _changed(job: Job) -> Response:
    return Response(job_document(job, outputs_of([job])[job.id]), headers=poll_after(job))
