"""The gate for requests that may wait: it runs Django's middleware and views in one of a few threads.

A view that lets its request wait returns a PendingResponse. Only a few fields of the request are kept, because thousands
are open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING
from uuid import UUID

from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.base import BaseHandler
from django.http import HttpResponse

if TYPE_CHECKING:
    from jobs.queries.watch import Position
    from streams import Header, Scope
    from streams.database_threads import DatabaseThreads

URLCONF = "streams.urls"
# The name in `request.META` of a flag for the views: STREAMS_MAX_WAITS requests wait already.
IS_FULL = "semel.is_full"


@dataclass(frozen=True, slots=True, kw_only=True)
class LongPoll:
    """A request that is answered when the job has settled, or after `seconds`."""

    job_id: UUID
    key_id: str
    position: Position
    seconds: int
    if_none_match: str
    headers: list[Header] = field(default_factory=list)  # of the later response; set by the gate


@dataclass(frozen=True, slots=True, kw_only=True)
class EventStream:
    """A request to be sent the job's events after this number."""

    job_id: UUID
    key_id: str
    position: Position
    after: int
    headers: list[Header] = field(default_factory=list)  # of the later response; set by the gate


@dataclass(frozen=True, slots=True)
class CompleteResponse:
    """A response to be sent now."""

    status: int
    headers: list[Header]
    body: bytes


class PendingResponse(HttpResponse):
    """A response to be given later. Its headers, after the middleware, are those of the later response."""

    def __init__(self, pending: LongPoll | EventStream, *, headers: Mapping[str, str]) -> None:
        super().__init__(headers=headers)
        self.pending = pending


class RequestGate:
    """Authenticates, rate-limits and validates by the api's own code, so that refusals are the same as there."""

    def __init__(self, threads: DatabaseThreads) -> None:
        self._threads = threads
        self._handler = BaseHandler()
        self._handler.load_middleware()

    async def admit(self, scope: Scope, *, is_full: bool) -> CompleteResponse | LongPoll | EventStream:
        """Pass the request to the views of this process, which may let it wait."""
        return await self._threads.run(self._respond, scope, urlconf=URLCONF, is_full=is_full)

    async def respond_now(self, scope: Scope) -> CompleteResponse:
        """Return the api's response at this moment: the job, or a refusal."""
        response = await self._threads.run(self._respond, scope)
        if not isinstance(response, CompleteResponse):
            raise TypeError("A view of the api returned a PendingResponse.")
        return response

    def _respond(
        self, scope: Scope, *, urlconf: str | None = None, is_full: bool = False
    ) -> CompleteResponse | LongPoll | EventStream:
        request = ASGIRequest(scope, BytesIO())
        request.META[IS_FULL] = is_full
        if urlconf is not None:
            request.urlconf = urlconf
        response = self._handler.get_response(request)
        if not isinstance(response, HttpResponse):
            raise TypeError(f"A response that is not streamed was expected, not {response!r}.")
        headers = [_header(name, value) for name, value in response.items()]
        if not response.content:
            # A response without a body has no Content-Length: in a 204 or 304 even 0 would be wrong (RFC 9110 §8.6).
            headers = [header for header in headers if header[0] != b"content-length"]
        if isinstance(response, PendingResponse):
            return replace(response.pending, headers=headers)
        return CompleteResponse(response.status_code, headers, response.content)


@lru_cache(maxsize=128)
def _header(name: str, value: str) -> Header:
    """Return the same object for the same header: only the request id differs between responses."""
    return name.lower().encode("ascii"), value.encode("latin-1")
