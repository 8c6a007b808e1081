"""What a scraper reads: what the processes of this host have counted, and what the servers say at this moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from prometheus_client import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from observability.metrics.database_metrics import StandingCollector
from observability.metrics.registry import REGISTRY, SLOTS, start_at_zero

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

    from observability.metrics.multiprocess_ids import Slots

log = structlog.get_logger(__name__)


class SharedCollector(Collector):
    """The sum over the files of all processes that share the folder, the dead included."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots

    def collect(self) -> Iterable[Metric]:
        """Counters and histograms of all; of gauges that are true only of the living, theirs."""
        files = [str(file) for file in self._slots.folder.glob("*.db") if self._counts(file)]
        merged: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return merged

    def _counts(self, file: Path) -> bool:
        kind, _, number = file.stem.rpartition("_")
        return not kind.startswith("gauge_live") or self._slots.is_held(number)


def render(*, with_standing: bool) -> bytes:
    """The text that Prometheus reads (exposition format 0.0.4).

    with_standing: also what stands in the database and the broker, which any number of scrapers would hear alike.
    """
    start_at_zero()
    counted = generate_latest(REGISTRY if SLOTS is None else SharedCollector(SLOTS))
    return counted + (generate_latest(StandingCollector()) if with_standing else b"")
