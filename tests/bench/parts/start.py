"""What a start takes, and what an idle stack holds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from devstack.http_client import ACCEPTED, Api
from tests.bench.contestants.contestant import NotMeasured
from tests.bench.cpu import tree_cpu_seconds, tree_pss_bytes

if TYPE_CHECKING:
    from tests.bench.contestants.semel import Semel
    from tests.bench.scale import Scale

IDLE_SECONDS = 10.0


def measure_start(contestant: Semel, _scale: Scale) -> dict[str, float]:
    """Return the times of the start and of the first accept, and the memory and CPU use of the idle stack."""
    api = Api(contestant.stack.base_url, contestant.stack.api_key)
    began = time.perf_counter()
    status = api.post(contestant.path, contestant.endpoint("short").body, "first").status
    first = time.perf_counter() - began
    if status != ACCEPTED:
        raise NotMeasured(f"The first answer was {status}.")
    contestant.wait_for_finished(1)
    pids = contestant.pids(contestant.own_names())
    cpu = tree_cpu_seconds(pids)
    time.sleep(IDLE_SECONDS)
    return {
        "ready_seconds": contestant.start_seconds,
        "first_accept_ms": 1_000 * first,
        "idle_pss_mb": tree_pss_bytes(pids) / 1e6,
        "idle_cores": (tree_cpu_seconds(pids) - cpu) / IDLE_SECONDS,
    }
