"""Conditional requests: a weak validator over the bytes of the answer (RFC 9110 §8.8, §13.1.2)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import orjson
from django.http import HttpResponse

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rest_framework.request import Request


def entity_tag(body: bytes) -> str:
    """The weak validator of these bytes."""
    return f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


def is_known(tag: str, if_none_match: str) -> bool:
    """Whether the client has what the tag stands for (RFC 9110 §13.1.2, weak comparison)."""
    known = [part.strip() for part in if_none_match.split(",")]
    return "*" in known or any(part.removeprefix("W/") == tag.removeprefix("W/") for part in known)


def conditional(request: Request, document: Mapping[str, Any], headers: Mapping[str, str]) -> HttpResponse:
    """200 with the document and its ETag, or 304 without a body where the client has these very bytes."""
    body = orjson.dumps(document)
    tag = entity_tag(body)
    unchanged = is_known(tag, request.headers.get("If-None-Match", ""))
    response = HttpResponse(status=304) if unchanged else HttpResponse(body, content_type="application/json")
    for name, value in {**headers, "ETag": tag}.items():
        response.headers[name] = value
    if unchanged:
        del response.headers["Content-Type"]
    return response
