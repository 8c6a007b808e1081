"""The stored response: what is kept of a response, and its replay."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from django.conf import settings
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import http_date

from idempotency.response_format import ResponseContent, decode_response, encode_response

if TYPE_CHECKING:
    from idempotency.records import Record

# Headers that describe the response itself. Never those of one exchange or one caller: cookies, credentials,
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
        # SDKs follow these two rather than the status: without them they would retry a final refusal.
        "stripe-should-retry",
        "x-should-retry",
    }
)

REPLAYED: Final = "Idempotency-Replayed"
EXPIRES: Final = "Idempotency-Expires"
# On a replay without its body, which was too large to keep.
BODY_OMITTED: Final = "Idempotency-Body-Omitted"


@dataclass(frozen=True, slots=True)
class StoredResponse:
    status: int
    encoded: bytes  # headers and body (response_format.py)


def snapshot(response: HttpResponseBase, *, max_bytes: int | None = None) -> StoredResponse:
    """Return what is kept of a rendered response; a body over `max_bytes` is left out.

    `max_bytes` is IDEMPOTENCY_STORED_RESPONSE_MAX_BYTES by default. Raises TypeError for a streaming response.
    """
    limit = settings.IDEMPOTENCY_STORED_RESPONSE_MAX_BYTES if max_bytes is None else max_bytes
    if not isinstance(response, HttpResponse):
        raise TypeError("A streaming response cannot be stored. An idempotent view must return the whole body.")
    headers = [(name, value) for name, value in response.items() if name.lower() in STORED_HEADERS]
    body = response.content
    # Store status and headers even if the body is too large, so that a retry does not repeat the work.
    content = ResponseContent(headers, body if len(body) <= limit else None)
    return StoredResponse(status=response.status_code, encoded=encode_response(content))


def replay(record: Record) -> HttpResponse:
    """Return the stored response: same status, same body bytes, same kept headers."""
    content = decode_response(record.response) if record.response else ResponseContent([], None)
    response = HttpResponse(content.body or b"", status=record.status)
    del response["Content-Type"]  # Django's default; the stored one is set below, if there was one
    for name, value in content.headers:
        response[name] = value
    if content.body is None:
        response[BODY_OMITTED] = "true"
    add_replay_headers(response, is_replayed=True, expires_at=record.expires_at)
    return response


def add_replay_headers(response: HttpResponseBase, *, is_replayed: bool, expires_at: datetime) -> None:
    """Set on the response whether it is a replay, and the earliest moment at which its key can be free."""
    response[REPLAYED] = "true" if is_replayed else "false"
    response[EXPIRES] = http_date(expires_at.timestamp())
