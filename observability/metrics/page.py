"""`/metrics`, for whoever knows the token: figures tell of load and trouble, and are not for the public."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from django.conf import settings
from django.http import Http404, HttpResponse
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from api.problems import not_let_in
from observability.metrics.exposition import render

if TYPE_CHECKING:
    from django.http import HttpRequest


def show_metrics(request: HttpRequest) -> HttpResponse:
    """The figures. Without a METRICS_TOKEN there is no such address; without the scraper's, 401."""
    if not settings.METRICS_TOKEN:
        raise Http404
    if not is_scraper(request.headers.get("Authorization", "")):
        return not_let_in(request, "Send the METRICS_TOKEN as Authorization: Bearer <token>.")
    return HttpResponse(
        render(with_standing=True),
        content_type=CONTENT_TYPE_PLAIN_0_0_4,
        headers={"Cache-Control": "no-store"},
    )


def is_scraper(authorization: str) -> bool:
    """Whether the header carries the token. Takes as long for a near miss as for any other."""
    scheme, _, token = authorization.partition(" ")
    given, expected = token.strip().encode(), settings.METRICS_TOKEN.encode()
    return bool(expected) and scheme.lower() == "bearer" and secrets.compare_digest(given, expected)
