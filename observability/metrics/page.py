"""`/metrics`: what the processes of this host have counted, and what database and broker contain now. Requires a token."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from api.problems import unauthenticated
from observability.metrics.database_metrics import DatabaseCollector
from observability.metrics.registry import PROCESS_IDS, REGISTRY, start_at_zero

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from observability.metrics.multiprocess_ids import ProcessIds


def show_metrics(request: HttpRequest) -> HttpResponse:
    """Return the metrics; 404 if no METRICS_TOKEN is set, 401 for a request without it."""
    if not settings.METRICS_TOKEN:
        raise Http404
    if not is_scraper(request.headers.get("Authorization", "")):
        return unauthenticated(request, "Send the METRICS_TOKEN as Authorization: Bearer <token>.")
    content = render_process_metrics() + generate_latest(DatabaseCollector())
    return HttpResponse(content, content_type=CONTENT_TYPE_PLAIN_0_0_4, headers={"Cache-Control": "no-store"})


def is_scraper(authorization: str) -> bool:
    """Return whether the header has the token. The comparison takes constant time."""
    scheme, _, token = authorization.partition(" ")
    given, expected = token.strip().encode(), settings.METRICS_TOKEN.encode()
    return bool(expected) and scheme.lower() == "bearer" and secrets.compare_digest(given, expected)


def render_process_metrics() -> bytes:
    """Return the metrics of all processes that share the folder, in Prometheus' text format 0.0.4."""
    start_at_zero()
    return generate_latest(REGISTRY if PROCESS_IDS is None else _FolderCollector(PROCESS_IDS))


class _FolderCollector(Collector):
    """The sum over the files of all processes, including the dead."""

    def __init__(self, ids: ProcessIds) -> None:
        self._ids = ids

    def collect(self) -> Iterable[Metric]:
        files = [str(file) for file in self._ids.folder.glob("*.db") if self._counts(file)]
        merged: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return merged

    def _counts(self, file: Path) -> bool:
        """Leave out gauges that are true only while their process lives."""
        kind, _, process_id = file.stem.rpartition("_")
        return not kind.startswith("gauge_live") or self._ids.is_alive(process_id)
