"""Conditional requests: a weak validator over the bytes of the answer (RFC 9110 §8.8, §13.1.2)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import orjson
from django.http import HttpResponse
from django.utils.http import parse_etags

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from django.http import HttpRequest
    from rest_framework.request import Request


# What may change at any moment: kept by the client alone, and asked for again each time (RFC 9111 §5.2.2).
REVALIDATED = {"Cache-Control": "private, no-cache"}


def entity_tag(body: bytes) -> str:
    """The weak validator of these bytes."""
    return f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


def is_known(tag: str, if_none_match: str) -> bool:
    """Whether the client has what the tag stands for (RFC 9110 §13.1.2, weak comparison)."""
    known = parse_etags(if_none_match)
    return known == ["*"] or any(one.removeprefix("W/") == tag.removeprefix("W/") for one in known)


def conditional(
    request: Request | HttpRequest, document: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> HttpResponse:
    """200 with the document and its ETag, or 304 without a body where the client has these very bytes."""
    return conditional_bytes(request, orjson.dumps(document), {**REVALIDATED, **(headers or {})})


def conditional_bytes(
    request: Request | HttpRequest,
    body: bytes,
    headers: Mapping[str, str],
    *,
    content_type: str = "application/json",
) -> HttpResponse:
    """The same of what is bytes already."""
    tag = entity_tag(body)
    unchanged = is_known(tag, request.headers.get("If-None-Match", ""))
    response = HttpResponse(status=304) if unchanged else HttpResponse(body, content_type=content_type)
    for name, value in {**headers, "ETag": tag}.items():
        response.headers[name] = value
    if unchanged:
        del response.headers["Content-Type"]
    return response
