"""Finishing jobs from a backlog, with no load meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.bench.contestants.contestant import NotMeasured
from tests.bench.cpu import tree_pss_bytes

if TYPE_CHECKING:
    from tests.bench.contestants import Contestant
    from tests.bench.cpu import Usage
    from tests.bench.scale import Scale

# The first jobs of a fresh worker load its code, and during the last ones some of its processes are idle.
FIRST_JOBS, LAST_JOBS = 20, 50
START_SECONDS = 60.0
POLL_SECONDS = 0.25


@dataclass(frozen=True)
class Drain:
    """A window in the middle of a backlog's decline."""

    finished: int
    seconds: float
    used: Usage

    @property
    def other_cores(self) -> float:
        """Cores that processes outside of the benchmark used."""
        return self.used.others / self.seconds

    @property
    def rate(self) -> float:
        """Finished jobs per second."""
        return self.finished / self.seconds


def measure_finish(contestant: Contestant, scale: Scale) -> dict[str, float]:
    """Return the rate at which a backlog of short jobs is finished, and the CPU time of a job."""
    jobs = contestant.make_backlog("short", scale.seconds)
    contestant.start_workers()
    drain = watch_drain(contestant, jobs, scale.seconds)
    used = drain.used
    worker = used.worker or used.api  # one process of DBOS does both
    return {
        "finished_per_second": drain.rate,
        "finished_worker_cpu_ms": 1_000 * worker / drain.finished,
        "finished_postgres_cpu_ms": 1_000 * used.postgres / drain.finished,
        "finished_broker_cpu_ms": 1_000 * used.broker / drain.finished,
        "finished_per_core_second": drain.finished / (worker + used.postgres + used.broker),
        "finished_other_cores": drain.other_cores,
    }


def measure_calls(contestant: Contestant, scale: Scale) -> dict[str, float]:
    """Return the rate of jobs with one call of 100 ms each, and the memory of the workers meanwhile."""
    jobs = contestant.make_backlog("call", scale.seconds)
    contestant.start_workers()
    at_once, memory = 0, 0

    def look() -> None:
        nonlocal at_once, memory
        at_once = max(at_once, contestant.host.calls()["most_held"])
        memory = max(memory, tree_pss_bytes(contestant.pids(contestant.worker_names() or ["api"])))

    drain = watch_drain(contestant, jobs, scale.seconds, look)
    return {
        "calls_per_second": drain.rate,
        "calls_at_once": at_once,
        "calls_worker_cpu_ms": 1_000 * (drain.used.worker or drain.used.api) / drain.finished,
        "calls_postgres_cpu_ms": 1_000 * drain.used.postgres / drain.finished,
        "workers_pss_mb": memory / 1e6,
        "calls_other_cores": drain.other_cores,
    }


def measure_plain_calls(contestant: Contestant, scale: Scale) -> dict[str, float]:
    """Return the rate of jobs whose call of 100 ms is not recorded."""
    jobs = contestant.make_backlog("plain call", scale.seconds)
    contestant.start_workers()
    return {"plain_calls_per_second": watch_drain(contestant, jobs, scale.seconds).rate}


def watch_drain(contestant: Contestant, jobs: int, seconds: float, look: Callable[[], None] = lambda: None) -> Drain:
    """Watch until the time is over or nearly all jobs are finished, and ``look`` twice. Raises NotMeasured."""
    first = contestant.finished()
    end = time.monotonic() + START_SECONDS
    while contestant.finished() < first + FIRST_JOBS:
        time.sleep(POLL_SECONDS)
        if time.monotonic() > end:
            raise NotMeasured(f"{contestant.title} has not finished {FIRST_JOBS} jobs in {START_SECONDS:.0f} s.")
    used, began, began_at = contestant.usage(), contestant.finished(), time.perf_counter()
    done, done_at, is_halfway = began, began_at, False
    while done < jobs - LAST_JOBS and done_at < began_at + seconds:
        time.sleep(POLL_SECONDS)
        done, done_at = contestant.finished(), time.perf_counter()
        if not is_halfway and done_at > began_at + seconds / 2:
            is_halfway = True
            look()
    used = contestant.usage() - used
    look()
    if done == began:
        raise NotMeasured(f"{contestant.title} had no backlog left, or finished nothing.")
    return Drain(done - began, done_at - began_at, used)
