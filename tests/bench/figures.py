"""The figures of the table, in its order, with their targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.bench.results import Medians

OURS = "semel"


@dataclass(frozen=True)
class Bound:
    """A target: a figure of Semel, alone or divided by another one, must reach this number or not exceed it."""

    number: float
    of: str = ""  # a contestant, or a figure of Semel; empty: the figure alone
    is_maximum: bool = False

    def measured(self, figure: str, medians: Medians) -> float | None:
        """Return the number to compare; None if it was not measured."""
        ours = medians.get(OURS, {})
        value = ours.get(figure)
        if value is None or not self.of:
            return value
        base = ours.get(self.of) if self.of in ours else medians.get(self.of, {}).get(figure)
        return value / base if base else None

    def is_met_by(self, value: float) -> bool:
        """Return whether the number is within the bound."""
        return value <= self.number if self.is_maximum else value >= self.number


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    key: str
    title: str
    bounds: tuple[Bound, ...] = ()
    digits: int = 0


def times(number: float, of: str) -> Bound:
    """Return the target of being so many times as good as a contestant, or as another figure."""
    return Bound(number, of=of)


def at_least(number: float) -> Bound:
    """Return the target of reaching this number."""
    return Bound(number)


def at_most(number: float) -> Bound:
    """Return the target of not exceeding this number."""
    return Bound(number, is_maximum=True)


FIGURES = (
    Figure("accept_per_second", "accepted, new keys, workers on (1/s)", (times(2, "naive"), times(5, "dbos"))),
    Figure("accept_p50_ms", "accept, p50 (ms)", digits=1),
    Figure("accept_p99_ms", "accept, p99 (ms)", digits=1),
    Figure("finished_meanwhile_per_second", "finished while accepting (1/s)"),
    Figure("accept_alone_per_second", "accepted, workers stopped (1/s)"),
    Figure("accept_alone_api_cpu_ms", "CPU per accept: API (ms)", (at_most(0.9),), digits=2),
    Figure("accept_postgres_cpu_ms", "CPU per accept: PostgreSQL (ms)", (at_most(0.4),), digits=2),
    Figure("accept_per_core_second", "accepts per second of CPU: API, PostgreSQL, Valkey"),
    Figure("replay_per_second", "replayed (1/s)", (times(2, "accept_per_second"),)),
    Figure("finished_per_second", "finished from a backlog (1/s)", (times(3, "naive"), times(3, "dbos"))),
    Figure("finished_worker_cpu_ms", "CPU per finished job: worker (ms)", (at_most(1.0),), digits=2),
    Figure("finished_postgres_cpu_ms", "CPU per finished job: PostgreSQL (ms)", (at_most(0.6),), digits=2),
    Figure("finished_broker_cpu_ms", "CPU per finished job: Valkey (ms)", digits=2),
    Figure("finished_per_core_second", "finished jobs per second of CPU: worker, PostgreSQL, Valkey"),
    Figure(
        "calls_per_second",
        "finished, each with one 100 ms call (1/s)",
        (at_least(250), times(1, "dbos"), times(12, "celery")),
    ),
    Figure("calls_at_once", "calls at once"),
    Figure("calls_worker_cpu_ms", "CPU per job with a call: worker (ms)", digits=2),
    Figure("calls_postgres_cpu_ms", "CPU per job with a call: PostgreSQL (ms)", digits=2),
    Figure("plain_calls_per_second", "finished, each with one call that is not recorded (1/s)"),
    Figure("workers_pss_mb", "memory of the workers during these calls, PSS (MB)", (at_most(300),)),
    Figure("start_p50_ms", "202 to first line, idle, p50 (ms)", (at_most(8),), digits=1),
    Figure("start_p99_ms", "202 to first line, idle, p99 (ms)", (at_most(25),), digits=1),
    Figure("ready_seconds", "start of all processes on running servers (s)", digits=1),
    Figure("first_accept_ms", "first accept after the start (ms)", digits=1),
    Figure("idle_pss_mb", "memory of the idle stack without servers, PSS (MB)"),
    Figure("idle_cores", "CPU of the idle stack without servers (cores)", digits=3),
    Figure("bytes_per_key", "bytes per stored key", (at_most(900),)),
    Figure("bytes_per_job", "bytes per finished job with its history", (at_most(1_800),)),
    Figure("crowd_connected", "10,000 connections: connected", (at_least(10_000),)),
    Figure("crowd_errors", "10,000 connections: errors", (at_most(0),)),
    Figure("crowd_closed", "10,000 connections: closed by the server"),
    Figure("crowd_per_second", "10,000 connections, 60 % of peak, half retries (1/s)"),
    Figure("crowd_p50_ms", "10,000 connections, p50 (ms)", digits=1),
    Figure("crowd_p99_ms", "10,000 connections, p99 (ms)", (at_most(200),), digits=1),
    Figure("burst_seconds", "10,000 requests at one instant: all answered after (s)", (at_most(10),), digits=1),
    Figure("burst_jobs", "10,000 requests at one instant: jobs of 2,000 keys", (at_least(2_000), at_most(2_000))),
    Figure("burst_errors", "10,000 requests at one instant: errors", (at_most(0),)),
    Figure("burst_unequal_keys", "10,000 requests at one instant: keys with unequal answers", (at_most(0),)),
    Figure("finished_during_snapshot_ratio", "finished under a held snapshot, relative to before", (at_least(0.9),), 2),
    Figure("far_accept_per_second", "2 ms away: accepted, new keys, workers on (1/s)"),
    Figure("far_accept_p50_ms", "2 ms away: accept, p50 (ms)", digits=1),
    Figure("far_replay_per_second", "2 ms away: replayed (1/s)"),
    Figure("far_finished_per_second", "2 ms away: finished from a backlog (1/s)"),
    Figure("far_calls_per_second", "2 ms away: finished, each with one 100 ms call (1/s)"),
    Figure("far_start_p50_ms", "2 ms away: 202 to first line, idle, p50 (ms)", digits=1),
)
