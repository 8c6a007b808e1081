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


def conditional(request: Request, document: Mapping[str, Any], headers: Mapping[str, str]) -> HttpResponse:
    """200 with the document and its ETag, or 304 without a body where the client has these very bytes."""
    body = orjson.dumps(document)
    tag = f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    known = [part.strip() for part in request.headers.get("If-None-Match", "").split(",")]
    unchanged = "*" in known or any(part.removeprefix("W/") == tag.removeprefix("W/") for part in known)
    response = HttpResponse(status=304) if unchanged else HttpResponse(body, content_type="application/json")
    for name, value in {**headers, "ETag": tag}.items():
        response.headers[name] = value
    if unchanged:
        del response.headers["Content-Type"]
    return response
