"""The time from a 202 to the operation's first line, in a stack that does nothing else."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from devstack.http_client import ACCEPTED, Api
from tests.bench.contestants.contestant import NotMeasured
from tests.bench.load import percentile

if TYPE_CHECKING:
    from tests.bench.contestants.semel import Semel
    from tests.bench.scale import Scale

JOBS = 200
# Longer than a job takes, so that each one finds an idle stack. No multiple of any interval of Semel's.
PAUSE_SECONDS = 0.037


def measure_idle(contestant: Semel, _scale: Scale) -> dict[str, float]:
    """Return percentiles over many jobs, requested one by one. The operation returns the time of its first line."""
    first = contestant.finished() + contestant.warm_up()
    contestant.wait_for_finished(first)
    api = Api(contestant.stack.base_url, contestant.stack.api_key)
    body = contestant.endpoint("short").body
    answered_at = {}
    for number in range(JOBS):
        answer = api.post(contestant.path, body, f"idle-{number}")
        now = time.time()
        if answer.status != ACCEPTED:
            raise NotMeasured(f"{contestant.title} answered {answer.status}.")
        answered_at[answer.document["id"]] = now
        time.sleep(PAUSE_SECONDS)
    contestant.wait_for_finished(first + JOBS)
    delays = [_began_at(api, job) - at for job, at in answered_at.items()]
    return {"start_p50_ms": 1_000 * percentile(delays, 50), "start_p99_ms": 1_000 * percentile(delays, 99)}


def _began_at(api: Api, job: str) -> float:
    return float(api.get(f"/v1/jobs/{job}").document["result"]["at"])
