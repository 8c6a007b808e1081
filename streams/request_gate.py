"""How a request that may wait comes in: through Django's middleware and views, as any other, in one of a few threads."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.base import BaseHandler
from django.http import HttpResponse

from streams.pending_responses import Held, all_headers_of, headers_of
from streams.views import NO_ROOM

if TYPE_CHECKING:
    from streams.pending_responses import Header, JobHold, StreamHold
    from streams.protocol import Scope
    from streams.threads import Threads

URLCONF = "streams.urls"


@dataclass(frozen=True, slots=True)
class Answer:
    """What is to be sent now, whole."""

    status: int
    headers: list[Header]
    body: bytes


@dataclass(frozen=True, slots=True)
class Admitted:
    """The request came in, and is held; the headers are those of its answer."""

    hold: JobHold | StreamHold
    headers: list[Header]


class Admission:
    """Authentication, rate limit, validation and the first read are the api's own code: a refusal reads the same here as there.

    Only what the answer will need is kept of the request afterwards.
    """

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._handler = BaseHandler()
        self._handler.load_middleware()

    async def admit(self, scope: Scope, *, has_room: bool) -> Answer | Admitted:
        """What a view that may hold the request says of it."""
        return await self._threads.run(self._ask, scope, URLCONF, has_room)

    async def answer_now(self, scope: Scope) -> Answer:
        """What the api says at this moment: the job, or what stands in the way of it."""
        answer = await self._threads.run(self._ask, scope, None, True)
        if isinstance(answer, Admitted):
            raise TypeError("A view of the api held the request.")
        return answer

    def _ask(self, scope: Scope, urlconf: str | None, has_room: bool) -> Answer | Admitted:  # noqa: FBT001
        request = ASGIRequest(scope, BytesIO())
        request.META[NO_ROOM] = not has_room
        if urlconf is not None:
            request.urlconf = urlconf
        response = self._handler.get_response(request)
        if isinstance(response, Held):
            return Admitted(response.hold, headers_of(response))
        if not isinstance(response, HttpResponse):
            raise TypeError(f"An answer in one piece was expected, not {response!r}.")
        # No body, no length: of a 204 or 304 it would be wrong even as 0 (RFC 9110 §8.6).
        headers = all_headers_of(response) if response.content else headers_of(response)
        return Answer(response.status_code, headers, response.content)
