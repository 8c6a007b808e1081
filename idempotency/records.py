"""What passes between the queries and the protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from idempotency.fingerprint import RequestParts


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedRequest:
    """A request together with its key, and how long that is to be remembered."""

    scope: str
    key: str
    ttl_seconds: int
    parts: RequestParts
    subject: str | None = None  # what it is about, "job/<id>", where that was there before


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """How a request is remembered: its digest, what it was made under, and the digests of its members."""

    digest: bytes
    version: int
    kid: str
    members: bytes | None


@dataclass(frozen=True, slots=True)
class Record:
    """A row at the moment it was read. Fields in the order of the queries' columns."""

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
    def stands_for(self) -> str | None:
        """What whoever comes with the key should look at: what the request made, or was about."""
        return self.resource or self.subject


@dataclass(slots=True, kw_only=True)
class Reservation:
    """This request is the first with its key and runs now, in the transaction that holds the record."""

    record_id: int
    scope: str
    key: str
    owner: int
    expires_at: datetime
    # What the request made, "job/<id>": until that has ended the key is not free. Whoever makes it sets this.
    resource: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a statement may wait for one lock, and run in all; at least 1, since 0 means no limit."""

    lock_milliseconds: int
    total_milliseconds: int


@dataclass(frozen=True, slots=True)
class Expired:
    """An expired record as the purge sees it. Fields in the order of the query's columns."""

    id: int
    expires_at: datetime
    resource: str | None = None
