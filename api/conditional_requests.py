"""Conditional requests: a weak ETag over the bytes of the response (RFC 9110 §8.8, §13.1.2)."""

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson
from django.http import HttpRequest, HttpResponse
from django.utils.cache import get_conditional_response
from rest_framework.request import Request

# For documents that can change at any moment: only the client may keep them, and must revalidate them (RFC 9111 §5.2.2).
REVALIDATED = {"Cache-Control": "private, no-cache"}


def entity_tag(body: bytes) -> str:
    """Return the weak ETag of these bytes."""
    return f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


def is_not_modified(tag: str, if_none_match: str) -> bool:
    """Return whether an `If-None-Match` header names this ETag (weak comparison)."""
    # Build a request that has only this header: the streams process keeps no request, and `If-Match` is ignored for reads.
    request = HttpRequest()
    request.method, request.META["HTTP_IF_NONE_MATCH"] = "GET", if_none_match
    return get_conditional_response(request, etag=tag) is not None


def conditional(
    request: Request | HttpRequest, document: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> HttpResponse:
    """Return 200 with the document and its ETag, or 304 if the client has these bytes."""
    return conditional_bytes(request, orjson.dumps(document), {**REVALIDATED, **(headers or {})})


def conditional_bytes(
    request: Request | HttpRequest, body: bytes, headers: Mapping[str, str], *, content_type: str = "application/json"
) -> HttpResponse:
    """Return 200 with the body and its ETag, or 304 if the client has these bytes."""
    tag = entity_tag(body)
    unchanged = is_not_modified(tag, request.headers.get("If-None-Match", ""))
    response = HttpResponse(status=304) if unchanged else HttpResponse(body, content_type=content_type)
    for name, value in {**headers, "ETag": tag}.items():
        response.headers[name] = value
    if unchanged:
        del response.headers["Content-Type"]
    return response
