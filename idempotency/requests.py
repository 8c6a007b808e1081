"""A DRF request as the protocol sees it: its key, its scope, and all that makes it this request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.utils.module_loading import import_string

from idempotency.fingerprint import NO_DOCUMENT, RequestParts
from idempotency.keys import parse_key, parse_ttl
from idempotency.parsers import ExactJSONParser, read_json, refuse_content_encoding
from idempotency.records import KeyedRequest

if TYPE_CHECKING:
    from rest_framework.request import Request

# On these the key is ignored: they change nothing.
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def read_keyed_request(
    request: Request, *, is_required: bool, ttl_seconds: int | None, subject: str | None = None
) -> KeyedRequest | None:
    """Return the request with its key and parsed body; None where it has no key and needs none. A TTL is checked all the same.

    Raises KeyMissing, KeyInvalid or TtlInvalid for the headers, and for the body whatever its parser raises.
    """
    if request.method in _SAFE_METHODS:
        return None
    header = request.META.get("HTTP_IDEMPOTENCY_KEY")
    is_keyed = is_required or header is not None
    key = parse_key(header, strict=settings.IDEMPOTENCY_KEY_SYNTAX == "strict") if is_keyed else ""
    default_ttl = settings.IDEMPOTENCY_TTL_SECONDS if ttl_seconds is None else ttl_seconds
    ttl = parse_ttl(request.META.get("HTTP_IDEMPOTENCY_TTL"), default_ttl)
    if not is_keyed:
        return None
    return KeyedRequest(
        scope=import_string(settings.IDEMPOTENCY_SCOPE)(request),
        key=key,
        ttl_seconds=ttl,
        parts=_read_parts(request),
        subject=subject,
    )


def _read_parts(request: Request) -> RequestParts:
    # Before the data: a stream read by a parser could not be read again for the fingerprint.
    body: bytes = request.body
    data = (
        request.data
    )  # whatever the view's parsers refuse is refused here, before anything is looked up or stored
    return RequestParts(
        method=request.method or "",
        path=request.path,
        query=request.META.get("QUERY_STRING", ""),
        content_type=request.content_type,
        body=body,
        document=_document(request, body, data),
    )


def _document(request: Request, body: bytes, data: Any) -> Any:  # noqa: ANN401 # JSON
    media_type = request.content_type.partition(";")[0].strip().lower()
    if not body or media_type != ExactJSONParser.media_type:
        return NO_DOCUMENT
    if any(isinstance(parser, ExactJSONParser) for parser in request.parsers or ()):
        return data
    # A parser that rounds numbers or drops repeated keys would make different requests look the same.
    refuse_content_encoding(request)
    return read_json(body)
