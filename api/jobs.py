"""`/v1/jobs`: each view parses, calls one service or selector, and renders."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from uuid import UUID

import orjson
from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import IsAdmin, IsTenant, principal_of
from api.base_view import ApiView
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
from idempotency.http import idempotent
from idempotency.records import Created, Work
from jobs.ids import job_resource
from jobs.keyset import encode_cursor
from jobs.selectors import events_of, get_job, list_jobs, outputs_of
from jobs.services import cancel_job, erase_payload, redrive_job, resolve_job
from jobs.submission import Origin, Submission, announce_job, plan_job, submit_job

if TYPE_CHECKING:
    from datetime import datetime

    from idempotency.records import Reservation
    from jobs.models import Job


def plan_submission(
    view: ApiView,  # noqa: ARG001 - the hook's signature
    request: Request,
    *,
    validated: Submission,
    key: str,
    at: datetime,
) -> Work | None:
    """Return the job's rows and the response, for the statement that accepts the key; None if it needs a transaction."""
    planned = plan_job(**_submitted(request, validated), idempotency_key=key, at=at)
    if planned is None:
        return None
    job = planned.job
    return Work(
        ctes=planned.ctes,
        values=planned.values,
        resource=job.resource,
        response=_accepted(job),
        after_commit=lambda: announce_job(job),
    )


class JobsView(ApiView):
    """Submit a job; list jobs."""

    @idempotent(required=True, validate=read_submission, at_once=plan_submission, creates=True, store_errors=())
    def post(self, request: Request, *, validated: Submission, reservation: Reservation) -> Created:
        """Return 202 with the queued job. Key, job and this response are committed together."""
        job = submit_job(
            **_submitted(request, validated),
            idempotency_record_id=reservation.record_id,
            idempotency_key=reservation.key,
        )
        return Created(_accepted(job), job.resource)

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


class JobView(ApiView):
    """Read one job."""

    def get(self, request: Request, job_id: UUID) -> HttpResponse:
        """Return the job, or 304. `?wait` is only checked here; the streams process waits."""
        principal = principal_of(request)
        read_query(JobQuery, request.query_params)
        return job_response(request, get_job(tenant_id=principal.tenant_id, mode=principal.mode, job_id=job_id))


def job_response(request: Request, job: Job) -> HttpResponse:
    """Return the job, or 304."""
    return conditional(request, job_document(job, outputs_of([job])[job.id]), poll_after(job))


class JobEventsView(ApiView):
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


class JobCancelView(ApiView):
    """Cancel a job, or request it."""

    @idempotent(required=False, subject=job_resource)
    def post(self, request: Request, job_id: UUID) -> Response:
        """Return the job: canceled, or with `cancel_requested_at`. A running job stops unless it has completed effects."""
        principal = principal_of(request)
        require_empty_request(request)
        job = cancel_job(tenant_id=principal.tenant_id, mode=principal.mode, job_id=job_id)
        return _changed(job)


class JobRedriveView(ApiView):
    """Queue a failed or canceled job again."""

    @idempotent(required=False, subject=job_resource)
    def post(self, request: Request, job_id: UUID) -> Response:
        """Return the queued job. Finished steps stay finished; a refused effect starts under a new downstream key."""
        principal = principal_of(request)
        require_empty_request(request)
        job = redrive_job(tenant_id=principal.tenant_id, mode=principal.mode, job_id=job_id)
        return _changed(job)


class JobPayloadView(ApiView):
    """Erase the payload of a job that has ended."""

    @idempotent(required=False)
    def delete(self, request: Request, job_id: UUID) -> Response:
        """Return the job without its payload. A retry of its first request gets 410."""
        require_empty_request(request)
        principal = principal_of(request)
        job = erase_payload(tenant_id=principal.tenant_id, mode=principal.mode, job_id=job_id)
        return _changed(job)


class JobResolveView(ApiView):
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


def _submitted(request: Request, submission: Submission) -> dict[str, Any]:
    """Return what both ways to submit a job are given: its owner, the submission and its origin."""
    principal = principal_of(request)
    origin = Origin(request_id=current_request_id() or None, traceparent=request_traceparent())
    return {"tenant_id": principal.tenant_id, "mode": principal.mode, "submission": submission, "origin": origin}


def _accepted(job: Job) -> HttpResponse:
    """Return 202 with the document of the new job."""
    headers = {"Location": f"/v1/jobs/{job.id}", **poll_after(job)}
    return HttpResponse(orjson.dumps(job_document(job)), "application/json", HTTPStatus.ACCEPTED, headers=headers)


def _changed(job: Job) -> Response:
    return Response(job_document(job, outputs_of([job])[job.id]), headers=poll_after(job))
