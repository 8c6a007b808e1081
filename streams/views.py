"""The views of the streams process: as those of the api, but where there is something to wait for the connection is held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from django.http import HttpResponse
from rest_framework.renderers import BaseRenderer

from accounts.authentication import principal_of
from api.jobs import JobEventsView, JobView, answer_now
from api.negotiation import EVENT_STREAM, EventsNegotiation
from api.query_strings import read_after, read_last_event_id, read_wait
from jobs.errors import TooManyWaits
from jobs.queries.watch import Position
from jobs.selectors import get_job
from jobs.states import State
from streams.pending_responses import Held, JobHold, StreamHold

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from rest_framework.request import Request

    from jobs.models import Job

# Set by `Admission` where as many requests wait as may: told only to those who may wait at all.
NO_ROOM = "semel.no_room"
# Of an event stream nothing is kept by a cache, and nothing held back by a proxy.
_UNBUFFERED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class _EventStreamRenderer(BaseRenderer):
    """Lets an event stream be accepted. It renders only what is said instead of one: a problem document."""

    media_type = EVENT_STREAM
    format = "event-stream"
    charset = None

    def render(
        self,
        data: Any,  # noqa: ANN401 - any JSON value
        accepted_media_type: str | None = None,  # noqa: ARG002 - DRF's signature
        renderer_context: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> bytes:
        """JSON."""
        return orjson.dumps(data)


class _StreamNegotiation(EventsNegotiation):
    """A stream for who accepts one, unless JSON is liked better: DRF does not weigh what is accepted (`q`)."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:  # noqa: ANN401 - DRF's types
        """The renderer and its media type. Raises NotAcceptable."""
        stream, json = map(request.accepted_type, (EVENT_STREAM, "application/json"))
        if json and json.quality > (stream.quality if stream else 0):
            renderers = [one for one in renderers if not isinstance(one, _EventStreamRenderer)]
        return super().select_renderer(request, renderers, format_suffix)


class WaitingJobView(JobView):
    """`GET /v1/jobs/{id}?wait=`."""

    def get(self, request: Request, job_id: UUID) -> HttpResponse:
        """The job, at once if it has settled; else the request is held."""
        principal = principal_of(request)
        seconds = read_wait(request.query_params)
        job = get_job(tenant_id=principal.tenant_id, mode=principal.mode, job_id=job_id)
        position = _position(job)
        if not seconds or position.is_settled or request.method == "HEAD":
            return answer_now(request, job)
        _refuse_without_room(request)
        hold = JobHold(
            job_id=job_id,
            key_id=principal.api_key_id,
            position=position,
            seconds=seconds,
            if_none_match=request.headers.get("If-None-Match", ""),
        )
        return Held(hold, content_type="application/json")


class EventStreamView(JobEventsView):
    """`GET /v1/jobs/{id}/events`: a stream for those who accept one, a list for all others."""

    content_negotiation_class = _StreamNegotiation
    renderer_classes = [_EventStreamRenderer, *JobEventsView.renderer_classes]

    def get(self, request: Request, job_id: UUID) -> HttpResponse:
        """The request is held, to be sent events as they happen. 204 (no need to reconnect) where none is to come."""
        if not isinstance(request.accepted_renderer, _EventStreamRenderer):
            return super().get(request, job_id)
        principal = principal_of(request)
        after = _start_of(request)
        job = get_job(tenant_id=principal.tenant_id, mode=principal.mode, job_id=job_id)
        position = _position(job)
        if position.is_over and after >= position.seq:
            nothing = HttpResponse(status=204, headers=_UNBUFFERED)
            del nothing.headers["Content-Type"]
            return nothing
        if request.method == "HEAD":
            return HttpResponse(content_type=EVENT_STREAM, headers=_UNBUFFERED)
        _refuse_without_room(request)
        hold = StreamHold(job_id=job_id, key_id=principal.api_key_id, position=position, after=after)
        response = Held(hold, content_type=EVENT_STREAM)
        for name, value in _UNBUFFERED.items():
            response.headers[name] = value
        return response


def _position(job: Job) -> Position:
    return Position(job.event_seq, State(job.state))


def _start_of(request: Request) -> int:
    """The number to go on from: where a stream that was cut had come to, else what the address says."""
    after = read_after(request.query_params)
    last = request.headers.get("Last-Event-ID", "")
    return read_last_event_id(last) if last else after


def _refuse_without_room(request: Request) -> None:
    if request.META.get(NO_ROOM):
        raise TooManyWaits
