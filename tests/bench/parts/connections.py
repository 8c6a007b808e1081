"""10,000 open connections, as they are served by default."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from tests.bench.crowd import Crowd, many_files
from tests.bench.load import half_retries, run_load

if TYPE_CHECKING:
    from tests.bench.contestants.semel import Semel
    from tests.bench.scale import Scale

COUNT, KEYS = 10_000, 2_000
SHARE_OF_PEAK = 0.6
PEAK_CONNECTIONS = 64


def measure_crowd(contestant: Semel, scale: Scale) -> dict[str, float]:
    """Return the latencies on 10,000 connections at 60 % of the peak, half of the requests being retries."""
    contestant.warm_up()
    endpoint = contestant.endpoint("short")
    peak = run_load(endpoint, half_retries("peak"), seconds=scale.seconds, connections=PEAK_CONNECTIONS)
    rate = SHARE_OF_PEAK * peak.rate
    # Long enough for one request on each connection.
    seconds = max(scale.seconds, COUNT / rate)
    with many_files(COUNT), Crowd(endpoint, COUNT) as crowd:
        load = crowd.send_at_rate(half_retries("crowd"), rate=rate, seconds=seconds)
        return {
            "crowd_peak_per_second": peak.rate,
            "crowd_connected": COUNT - crowd.not_connected,
            "crowd_errors": crowd.not_connected + load.refused + load.unanswered,
            "crowd_closed": crowd.closed,
            "crowd_per_second": load.rate,
            "crowd_p50_ms": load.latency_ms(50),
            "crowd_p99_ms": load.latency_ms(99),
            "crowd_generator_cpu_ms": 1_000 * load.cpu_per_request,
        }


def measure_burst(contestant: Semel, _scale: Scale) -> dict[str, float]:
    """Return how long 10,000 requests on 2,000 keys take that are sent at one instant, and whether retries got equal answers."""
    jobs = contestant.warm_up()
    keys = [b"burst-%d" % (number % KEYS) for number in range(COUNT)]
    with many_files(COUNT), Crowd(contestant.endpoint("short"), COUNT) as crowd:
        load, answers = crowd.send_at_once(keys)
        errors = crowd.not_connected + load.refused + load.unanswered
    bodies = defaultdict(set)
    for key, answer in answers:
        bodies[key].add((answer[9:12], answer.partition(b"\r\n\r\n")[2]))
    return {
        "burst_seconds": load.seconds,
        "burst_answered": load.answers,
        "burst_errors": errors,
        "burst_jobs": contestant.jobs() - jobs,
        "burst_unequal_keys": sum(len(each) > 1 for each in bodies.values()),
    }
