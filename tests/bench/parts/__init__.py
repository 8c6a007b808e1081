"""The parts of the benchmark: each measures one contestant on a fresh start and returns numbers by name."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from tests.bench.parts.accept import measure_accept
from tests.bench.parts.connections import measure_burst, measure_crowd
from tests.bench.parts.finish import measure_calls, measure_finish, measure_plain_calls
from tests.bench.parts.idle import measure_idle
from tests.bench.parts.snapshot import measure_snapshot
from tests.bench.parts.start import measure_start
from tests.bench.parts.storage import measure_storage
from tests.bench.scale import Scale


@dataclass(frozen=True)
class Part:
    """What is measured, of whom."""

    measure: Callable[[Any, Scale], dict[str, float]]
    contestants: Collection[str] = ("semel",)
    # Measured with --full or by name; once, since it takes minutes and compares Semel with itself.
    is_full: bool = False
    delay_ms: float = 0.0  # of the network to PostgreSQL and Valkey, there and back


SERVICES = ("semel", "naive", "dbos")
DELAY_MS = 2.0
PARTS = {
    "idle": Part(measure_idle),
    "accept": Part(measure_accept, SERVICES),
    "finish": Part(measure_finish, [*SERVICES, "kept"]),
    "calls": Part(measure_calls, [*SERVICES, "celery"]),
    "plain-calls": Part(measure_plain_calls),
    "start": Part(measure_start, is_full=True),
    "storage": Part(measure_storage, is_full=True),
    "crowd": Part(measure_crowd, is_full=True),
    "burst": Part(measure_burst, is_full=True),
    "far-idle": Part(measure_idle, is_full=True, delay_ms=DELAY_MS),
    "far-accept": Part(measure_accept, SERVICES, is_full=True, delay_ms=DELAY_MS),
    "far-finish": Part(measure_finish, SERVICES, is_full=True, delay_ms=DELAY_MS),
    "far-calls": Part(measure_calls, SERVICES, is_full=True, delay_ms=DELAY_MS),
    "snapshot": Part(measure_snapshot, is_full=True),
}
