"""What a view returns to have its connection wait: all that is kept of the request, since thousands of them are open."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from django.http import HttpResponse

if TYPE_CHECKING:
    from uuid import UUID

    from jobs.queries.watch import Position

Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobHold:
    """The job is to be answered when it has settled, or after so many seconds."""

    job_id: UUID
    key_id: str
    position: Position
    seconds: int
    if_none_match: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamHold:
    """The job's events after this number are to be streamed."""

    job_id: UUID
    key_id: str
    position: Position
    after: int


class Held(HttpResponse):
    """An answer that is to be given later. Its headers, as the middleware leaves them, are those of the answer to come."""

    def __init__(self, hold: JobHold | StreamHold, *, content_type: str) -> None:
        super().__init__(content_type=content_type)
        self.hold = hold


def headers_of(response: HttpResponse) -> list[Header]:
    """The headers that any answer to this request has, for ASGI; its length is known when there is one."""
    return [_header(name, value) for name, value in response.items() if name.lower() != "content-length"]


def all_headers_of(response: HttpResponse) -> list[Header]:
    """Every header, for ASGI."""
    return [_header(name, value) for name, value in response.items()]


@lru_cache(maxsize=128)
def _header(name: str, value: str) -> Header:
    """The same object for the same header: all but the request's id are the same on every answer."""
    return name.lower().encode("ascii"), value.encode("latin-1")
