"""Data classes of the package: a keyed request, a stored record, a reservation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django.http import HttpResponse
    from django.http.response import HttpResponseBase

    from idempotency.fingerprint import RequestParts


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedRequest:
    """A request with its key and the key's lifetime."""

    scope: str
    key: str
    ttl_seconds: int
    parts: RequestParts
    subject: str | None = None  # the existing resource it acts on: "job/<id>" of a cancel


@dataclass(frozen=True, slots=True)
class Record:
    """A row of `idempotency_record` at the time when it was read. The fields are in the order of the queries' columns."""

    id: int
    scope: str
    key: str
    fingerprint: bytes
    fingerprint_version: int
    fingerprint_kid: str
    members: bytes | None
    method: str
    path: str
    status: int | None
    response: bytes | None
    erased_at: datetime | None
    resource: str | None
    subject: str | None
    owner: int
    created_at: datetime
    expires_at: datetime
    is_expired: bool  # by the database's clock

    @property
    def linked_resource(self) -> str | None:
        """What a refused request is linked to: the resource that the first request made, or acted on."""
        return self.resource or self.subject


@dataclass(frozen=True, slots=True)
class Found:
    """What the first statement of a keyed request read."""

    record: Record | None
    read_at: datetime  # by the database's clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """The exclusive right to process a key, held by the transaction in which its first request runs."""

    record_id: int
    scope: str
    key: str
    owner: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Created:
    """The response of a view, and the resource that its request made ("job/<id>"): the key stays taken until that has ended."""

    response: HttpResponseBase
    resource: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The rows of a request that are written by the statement that accepts its key, and the response.

    ctes: common table expressions that read the relation `accepted`: one row (id) if this request has the key, else none.
    after_commit: called once the statement is committed; must not raise.
    """

    ctes: str
    values: Mapping[str, Any]
    resource: str | None
    response: HttpResponse
    after_commit: Callable[[], None]
