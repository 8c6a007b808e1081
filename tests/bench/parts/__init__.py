"""The parts of the benchmark: each measures one contestant on a fresh start and returns numbers by name."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from tests.bench.parts.accept import measure_accept
from tests.bench.parts.finish import measure_calls, measure_finish, measure_plain_calls
from tests.bench.parts.idle import measure_idle


@dataclass(frozen=True)
class Part:
    """What is measured, of whom."""

    measure: Callable[[Any, float], dict[str, float]]
    contestants: Collection[str]
    is_full: bool = False  # measured with --full, or by name


SERVICES = ("semel", "naive", "dbos")
PARTS = {
    "idle": Part(measure_idle, ["semel"]),
    "accept": Part(measure_accept, SERVICES),
    "finish": Part(measure_finish, [*SERVICES, "kept"]),
    "calls": Part(measure_calls, [*SERVICES, "celery"]),
    "plain-calls": Part(measure_plain_calls, ["semel"]),
}
