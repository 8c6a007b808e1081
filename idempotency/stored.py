"""The stored answer: what of a response is kept, and the same response again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from django.conf import settings
from django.http import HttpResponse
from django.utils.http import http_date

if TYPE_CHECKING:
    from datetime import datetime

    from django.http.response import HttpResponseBase

    from idempotency.records import Record

# What describes the answer itself. Never what belongs to one exchange or one caller: cookies, credentials,
# hop-by-hop headers, request ids, rate limits.
STORED_HEADERS: Final = frozenset(
    {
        "cache-control",
        "content-disposition",
        "content-language",
        "content-location",
        "content-type",
        "etag",
        "last-modified",
        "link",
        "location",
        "retry-after",
        # What SDKs heed more than the status: without them they would repeat a refusal that stays one.
        "stripe-should-retry",
        "x-should-retry",
    }
)

REPLAYED: Final = "Idempotency-Replayed"
EXPIRES: Final = "Idempotency-Expires"
# On a replay without its body, which had been too large to keep.
BODY_OMITTED: Final = "Idempotency-Body-Omitted"


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response as the record keeps it."""

    status: int
    headers: bytes  # JSON list of [name, value]
    body: bytes | None  # None: too large to keep


def snapshot(response: HttpResponseBase, *, max_bytes: int | None = None) -> StoredResponse:
    """Return what is kept of a rendered response; TypeError for a stream, which cannot be sent twice.

    A body of more than `max_bytes` (IDEMPOTENCY_STORED_RESPONSE_MAX_BYTES) is not.
    """
    limit = settings.IDEMPOTENCY_STORED_RESPONSE_MAX_BYTES if max_bytes is None else max_bytes
    if not isinstance(response, HttpResponse):
        raise TypeError("A streaming response cannot be stored; an idempotent view returns its whole body.")
    headers = [[name, value] for name, value in response.items() if name.lower() in STORED_HEADERS]
    body = response.content
    return StoredResponse(
        status=response.status_code,
        headers=json.dumps(headers, separators=(",", ":")).encode(),
        # The work is done and must not be done again for the sake of its answer: keep the rest.
        body=body if len(body) <= limit else None,
    )


def replay(record: Record) -> HttpResponse:
    """Return the response again: same status, same body bytes, same kept headers."""
    response = HttpResponse(record.body or b"", status=record.status)
    del response["Content-Type"]  # Django's default; the stored one follows, if there was one
    for name, value in json.loads(record.headers or b"[]"):
        response[name] = value
    if record.body is None:
        response[BODY_OMITTED] = "true"
    mark(response, is_replayed=True, expires_at=record.expires_at)
    return response


def mark(response: HttpResponseBase, *, is_replayed: bool, expires_at: datetime) -> None:
    """Say on the response whether it is a replay, and when at the earliest its key can be free."""
    response[REPLAYED] = "true" if is_replayed else "false"
    response[EXPIRES] = http_date(expires_at.timestamp())
