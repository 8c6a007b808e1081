"""Each fact that the packages announce is counted. All are sent robustly: what goes wrong here is logged, and stops nobody."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from broker.circuit_breaker import redis_breaker
from broker.signals import breaker_closed, breaker_opened, hints_published
from idempotency import signals as keys
from jobs.signals import hold_began, hold_ended, job_moved, violation_found
from observability.metrics import registry
from observability.metrics.registry import operation_label
from workers import signals as work

if TYPE_CHECKING:
    from idempotency.records import Record
    from jobs.signals import JobMove
    from workers import purge, sweep

# ruff: noqa: ANN401 - what else a signal brings


def connect() -> None:
    """From now on what happens in this process is counted."""
    for signal, receiver in (
        (keys.accepted, _count_first),
        (keys.replayed, _count_replay),
        (keys.mismatched, _count_reuse),
        (keys.in_progress, _count_in_progress),
        (job_moved, _count_move),
        (hold_began, _count_hold),
        (hold_ended, _count_hold_end),
        (work.delivery_dropped, _count_drop),
        (work.attempt_ended, _count_attempt),
        (work.write_refused, _count_stale),
        (hints_published, _count_published),
        (work.swept, _count_sweep),
        (work.purged, _count_purge),
        (violation_found, _count_violation),
        (breaker_opened, _show_breaker),
        (breaker_closed, _show_breaker),
    ):
        signal.connect(receiver, dispatch_uid=f"metrics.{receiver.__name__}")


def _count_first(*, is_takeover: bool = False, **_: Any) -> None:
    registry.KEYED.labels("taken_over" if is_takeover else "first").inc()


def _count_replay(*, record: Record, has_waited: bool, **_: Any) -> None:
    registry.KEYED.labels("waited" if has_waited else "replayed").inc()
    # By this host's clock: what a second more or less matters for is no question of retry windows.
    age = max(0.0, time.time() - record.created_at.timestamp())
    registry.REPLAY_AGE.observe(age)
    registry.REPLAY_LIFE.observe(age / (record.expires_at - record.created_at).total_seconds())


def _count_reuse(**_: Any) -> None:
    registry.KEYED.labels("reused").inc()


def _count_in_progress(**_: Any) -> None:
    registry.KEYED.labels("in_progress").inc()


def _count_move(*, move: JobMove, **_: Any) -> None:
    operation = operation_label(move.operation)
    registry.MOVES.labels(operation, move.event, move.state).inc()
    if move.wait_seconds is not None:
        registry.WAIT_SECONDS.labels(operation).observe(max(0.0, move.wait_seconds))


def _count_hold(*, kind: str, **_: Any) -> None:
    registry.HOLDS.labels(kind).inc()


def _count_hold_end(*, kind: str, seconds: float, **_: Any) -> None:
    registry.HOLDS.labels(kind).dec()
    registry.HOLD_SECONDS.labels(kind).observe(seconds)


def _count_drop(*, reason: str, **_: Any) -> None:
    registry.DROPPED.labels(reason).inc()


def _count_attempt(*, operation: str, outcome: str, seconds: float, **_: Any) -> None:
    registry.RUN_SECONDS.labels(operation_label(operation), outcome).observe(seconds)


def _count_stale(**_: Any) -> None:
    registry.STALE.inc()


def _count_published(*, sent: int, failed: int, skipped: int, **_: Any) -> None:
    for outcome, count in (("sent", sent), ("failed", failed), ("skipped", skipped)):
        if count:
            registry.PUBLISHED.labels(outcome).inc(count)


def _count_sweep(*, counts: sweep.Counts, seconds: float, **_: Any) -> None:
    for kind in registry.SWEEP_KINDS:
        registry.SWEPT.labels(kind).inc(getattr(counts, kind))
    now = time.time()
    registry.HELD_BACK.set(counts.held_back)
    registry.SWEEP_SECONDS.observe(seconds)
    registry.SWEEP_AT.set(now)


def _count_purge(*, counts: purge.Counts, seconds: float, **_: Any) -> None:
    for kind in registry.PURGE_KINDS:
        registry.PURGED.labels(kind).inc(getattr(counts, f"{kind}_deleted"))
    registry.PURGE_SECONDS.observe(seconds)
    registry.PURGE_AT.set(time.time())


def _count_violation(*, finding: Any, **_: Any) -> None:
    registry.VIOLATIONS.labels(finding.invariant).inc()


def _show_breaker(**_: Any) -> None:
    # As it is, not as the signal says: of two threads' signals the later need not come last.
    registry.BREAKER.set(redis_breaker.is_open)
