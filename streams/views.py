"""The views of the streams process: the api's views, except that a request with something to wait for stays open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
from django.http import HttpResponse
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from accounts.authentication import principal_of
from api.content_negotiation import EVENT_STREAM, EventsNegotiation
from api.forms import JobQuery, StreamQuery, read_last_event_id, read_query
from api.jobs import JobEventsView, JobView, job_response
from jobs.errors import TooManyWaits
from jobs.queries.watch import Position
from jobs.selectors import get_job
from jobs.states import State
from streams.request_gate import IS_FULL, EventStream, LongPoll, PendingResponse

if TYPE_CHECKING:
    from jobs.models import Job

# No cache may store an event stream, and no proxy may buffer it.
_UNBUFFERED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_STREAM_HEADERS = {"Content-Type": EVENT_STREAM, **_UNBUFFERED}


class _EventStreamRenderer(BaseRenderer):
    """Makes DRF accept `text/event-stream`. It renders only problem documents."""

    media_type = EVENT_STREAM
    format = "event-stream"
    charset = None

    def render(
        self,
        data: Any,  # noqa: ANN401 - any JSON value
        accepted_media_type: str | None = None,  # noqa: ARG002 - DRF's signature
        renderer_context: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> bytes:
        return orjson.dumps(data)


class _StreamNegotiation(EventsNegotiation):
    """Selects JSON if the client prefers it to a stream: DRF ignores the weights (`q`) in `Accept`."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:  # noqa: ANN401 - DRF's types
        stream, json = map(request.accepted_type, (EVENT_STREAM, "application/json"))
        if json and json.quality > (stream.quality if stream else 0):
            renderers = [one for one in renderers if not isinstance(one, _EventStreamRenderer)]
        return super().select_renderer(request, renderers, format_suffix)


class WaitingJobView(JobView):
    """`GET /v1/jobs/{id}?wait=`."""

    def get(self, request: Request, job_id: UUID) -> HttpResponse:
        """Return the job at once if it has settled; otherwise keep the request open."""
        principal = principal_of(request)
        seconds = int(read_query(JobQuery, request.query_params)["wait"])
        job = get_job(tenant_id=principal.tenant_id, mode=principal.mode, job_id=job_id)
        position = _position(job)
        if not seconds or position.is_settled or request.method == "HEAD":
            return job_response(request, job)
        _require_room(request)
        pending = LongPoll(
            job_id=job_id,
            key_id=principal.api_key_id,
            position=position,
            seconds=seconds,
            if_none_match=request.headers.get("If-None-Match", ""),
        )
        return PendingResponse(pending, headers={"Content-Type": "application/json"})


class EventStreamView(JobEventsView):
    """`GET /v1/jobs/{id}/events`: a stream for clients that accept one, otherwise a list."""

    content_negotiation_class = _StreamNegotiation
    renderer_classes = [_EventStreamRenderer, *JobEventsView.renderer_classes]

    def get(self, request: Request, job_id: UUID) -> HttpResponse:
        """Keep the request open and stream the events; 204 if none will follow, which stops browsers from reconnecting."""
        if not isinstance(request.accepted_renderer, _EventStreamRenderer):
            return super().get(request, job_id)
        principal = principal_of(request)
        after = _first_position(request)
        job = get_job(tenant_id=principal.tenant_id, mode=principal.mode, job_id=job_id)
        position = _position(job)
        if position.is_over and after >= position.seq:
            no_content = HttpResponse(status=204, headers=_UNBUFFERED)
            del no_content.headers["Content-Type"]
            return no_content
        if request.method == "HEAD":
            return HttpResponse(headers=_STREAM_HEADERS)
        _require_room(request)
        pending = EventStream(job_id=job_id, key_id=principal.api_key_id, position=position, after=after)
        return PendingResponse(pending, headers=_STREAM_HEADERS)


def _position(job: Job) -> Position:
    return Position(job.event_seq, State(job.state))


def _first_position(request: Request) -> int:
    """Return the number after which the stream begins: `Last-Event-ID` of an interrupted stream, else `?after`."""
    after = int(read_query(StreamQuery, request.query_params)["after"])
    last = request.headers.get("Last-Event-ID", "")
    return read_last_event_id(last) if last else after


def _require_room(request: Request) -> None:
    if request.META.get(IS_FULL):
        raise TooManyWaits
