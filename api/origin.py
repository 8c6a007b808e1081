"""Where a job comes from, as the middleware in front of the API told it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.submission import Origin

if TYPE_CHECKING:
    from rest_framework.request import Request


def origin_of(request: Request) -> Origin:
    """The request's id and, where it is traced, its trace. The middleware has checked or made both (api/request_id.py)."""
    return Origin(
        request_id=request.META.get("semel.request_id") or None,
        traceparent=request.META.get("semel.traceparent") or None,
    )
