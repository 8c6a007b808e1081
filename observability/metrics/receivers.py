"""Update metrics when other packages send signals. They use `send_robust`, so an error here is logged and does not stop them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from broker.circuit_breaker import redis_breaker
from broker.signals import breaker_closed, breaker_opened, hints_published
from idempotency import signals as keys
from jobs.signals import state_changed, violation_found, wait_ended, wait_started
from observability.metrics import registry
from observability.metrics.registry import operation_label
from workers import signals as work

if TYPE_CHECKING:
    from idempotency.records import Record
    from jobs.signals import StateChange
    from workers import purge, sweep

# ruff: noqa: ANN401 - other arguments of a signal


def connect() -> None:
    """Start counting in this process."""
    for signal, receiver in (
        (keys.accepted, _count_first_use),
        (keys.replayed, _count_replay),
        (keys.mismatched, lambda **_: registry.KEYED.labels("reused").inc()),
        (keys.in_progress, lambda **_: registry.KEYED.labels("in_progress").inc()),
        (state_changed, _count_transition),
        (wait_started, lambda kind, **_: registry.OPEN_STREAMS.labels(kind).inc()),
        (wait_ended, _count_stream_end),
        (work.delivery_dropped, lambda reason, **_: registry.DROPPED.labels(reason).inc()),
        (work.attempt_ended, _count_attempt),
        (work.write_refused, lambda **_: registry.STALE.inc()),
        (hints_published, _count_hints),
        (work.swept, _count_sweep),
        (work.purged, _count_purge),
        (violation_found, lambda finding, **_: registry.VIOLATIONS.labels(finding.invariant).inc()),
        (breaker_opened, _show_breaker),
        (breaker_closed, _show_breaker),
    ):
        signal.connect(receiver, weak=False, dispatch_uid="metrics")


def _count_first_use(*, is_takeover: bool = False, **_: Any) -> None:
    registry.KEYED.labels("taken_over" if is_takeover else "first").inc()


def _count_replay(*, record: Record, has_waited: bool, **_: Any) -> None:
    registry.KEYED.labels("waited" if has_waited else "replayed").inc()
    # By this host's clock: a second more or less does not matter here.
    age = max(0.0, time.time() - record.created_at.timestamp())
    registry.REPLAY_AGE.observe(age)
    registry.REPLAY_LIFE.observe(age / (record.expires_at - record.created_at).total_seconds())


def _count_transition(*, change: StateChange, **_: Any) -> None:
    operation = operation_label(change.operation)
    registry.TRANSITIONS.labels(operation, change.event, change.state).inc()
    if change.wait_seconds is not None:
        registry.WAIT_SECONDS.labels(operation).observe(max(0.0, change.wait_seconds))


def _count_stream_end(*, kind: str, seconds: float, **_: Any) -> None:
    registry.OPEN_STREAMS.labels(kind).dec()
    registry.STREAM_SECONDS.labels(kind).observe(seconds)


def _count_attempt(*, operation: str, outcome: str, seconds: float, **_: Any) -> None:
    registry.RUN_SECONDS.labels(operation_label(operation), outcome).observe(seconds)


def _count_hints(*, sent: int, failed: int, skipped: int, **_: Any) -> None:
    for outcome, count in (("sent", sent), ("failed", failed), ("skipped", skipped)):
        if count:
            registry.PUBLISHED.labels(outcome).inc(count)


def _count_sweep(*, counts: sweep.Counts, seconds: float, **_: Any) -> None:
    for kind in registry.SWEEP_KINDS:
        registry.SWEPT.labels(kind).inc(getattr(counts, kind))
    registry.SWEEP_SECONDS.observe(seconds)
    registry.SWEEP_AT.set(time.time())


def _count_purge(*, counts: purge.Counts, seconds: float, **_: Any) -> None:
    for kind in registry.PURGE_KINDS:
        registry.PURGED.labels(kind).inc(getattr(counts, f"{kind}_deleted"))
    registry.PURGE_SECONDS.observe(seconds)
    registry.PURGE_AT.set(time.time())


def _show_breaker(**_: Any) -> None:
    # Read the breaker itself: the signals of two threads can arrive in the wrong order.
    registry.BREAKER.set(redis_breaker.is_open)
