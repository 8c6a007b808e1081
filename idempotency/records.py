"""Data classes of the package: a keyed request, a stored record, a reservation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    headers: bytes | None
    body: bytes | None
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


@dataclass(slots=True, kw_only=True)
class Reservation:
    """The exclusive right to process a key, held by the transaction in which its first request runs."""

    record_id: int
    scope: str
    key: str
    owner: int
    expires_at: datetime
    # What the request made, "job/<id>". The view sets it; the key stays taken until the resource has ended.
    resource: str | None = None
