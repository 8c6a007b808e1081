"""Every figure that processes count, with its name, its labels and its buckets. Labels take few values, all known here.

No label holds a path, an id, a key or a tenant. Counters whose first move matters start at 0 in each process: Prometheus does
not see a rise from nothing to 1.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Final

from django.conf import settings
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, values

from jobs.registry import operations
from jobs.states import RULES, State
from observability.metrics.multiprocess_ids import take_place

# Before the first figure is made. By itself prometheus_client would name a process's files by its process id, and would make some
# in whatever folder it stands where the variable is set and empty.
SLOTS: Final = take_place(settings.PROMETHEUS_MULTIPROC_DIR)
values.ValueClass = (
    values.MutexValue if SLOTS is None else values.MultiProcessValue(SLOTS.mine)  # type: ignore[no-untyped-call]
)
disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY: Final = CollectorRegistry()

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
# From a replay out of the cache to the longest statement that the api allows, and its retries.
_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
# From a worker that waits for work to a backlog of a day; from an empty operation to the longest that a worker may run.
_JOB_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, _MINUTE, 300, 900, _HOUR, 4 * _HOUR, _DAY)
_HOLD_SECONDS = (0.5, 1, 2.5, 5, 10, 20, 30, 45, 60, 300, _HOUR)
_ROUND_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
# Where do retries come from? A client's own loop, its queue, its nightly run; up to the longest life of a key, 30 days.
_AGE_SECONDS = (
    *(1, 10, _MINUTE, 5 * _MINUTE, 30 * _MINUTE, _HOUR, 3 * _HOUR, 6 * _HOUR, 12 * _HOUR, 18 * _HOUR),
    *(_DAY, 2 * _DAY, 3 * _DAY, 7 * _DAY, 14 * _DAY, 30 * _DAY),
)


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(f"semel_{name}", text, labels, registry=REGISTRY)


def _histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...]) -> Histogram:
    return Histogram(f"semel_{name}", text, labels, registry=REGISTRY, buckets=buckets)


def _gauge(name: str, text: str, *labels: str, mode: str) -> Gauge:
    """``mode``: what the values of several processes come to; one that begins with "live" leaves out the dead."""
    return Gauge(f"semel_{name}", text, labels, registry=REGISTRY, multiprocess_mode=mode)  # type: ignore[arg-type]


# --- HTTP --------------------------------------------------------------------------------------------------------------

REQUESTS = _counter("http_requests_total", "Requests, by route as in urls.py.", "method", "route", "status")
REQUEST_SECONDS = _histogram(
    "http_request_duration_seconds",
    "From a request's first line of ours to its answer; of one that waits, until it was let in.",
    *("method", "route"),
    buckets=_REQUEST_SECONDS,
)
HOLDS = _gauge("streams_open", "Requests that wait now on the streams processes.", "kind", mode="livesum")
HOLD_SECONDS = _histogram(
    "streams_hold_duration_seconds", "How long requests waited there.", "kind", buckets=_HOLD_SECONDS
)

# --- Idempotency -------------------------------------------------------------------------------------------------------

KEYED = _counter("idempotency_requests_total", "Requests with a key, by what became of them.", "outcome")
KEY_OUTCOMES: Final = ("first", "taken_over", "replayed", "waited", "in_progress", "reused")
REPLAY_AGE = _histogram(
    "idempotency_replay_age_seconds", "How old a key was when its answer was replayed.", buckets=_AGE_SECONDS
)
REPLAY_LIFE = _histogram(
    "idempotency_replay_lifetime_ratio",
    "How much of its lifetime a key had behind it when its answer was replayed; over 1: expired, and its job had not ended.",
    buckets=(0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 1),
)

# --- Jobs --------------------------------------------------------------------------------------------------------------

MOVES = _counter(
    "job_transitions_total",
    "Jobs by what happened to them and the state it led to.",
    "operation",
    "event",
    "state",
)
WAIT_SECONDS = _histogram("job_wait_seconds", "From due to claimed.", "operation", buckets=_JOB_SECONDS)
RUN_SECONDS = _histogram(
    "job_run_seconds", "From claim to settled, of one attempt.", "operation", "outcome", buckets=_JOB_SECONDS
)
DROPPED = _counter("deliveries_dropped_total", "Messages that found nothing to claim.", "reason")
# In the first three cases the message was a duplicate.
DROP_REASONS: Final = ("running", "settled", "gone", "blocked", "waiting", "not_told")
STALE = _counter("stale_writes_total", "Attempts that lost their job: the fence refused a write of theirs.")

# --- Broker ------------------------------------------------------------------------------------------------------------

PUBLISHED = _counter(
    "publishes_total", "Messages for the broker; what is not sent is the sweeper's.", "outcome"
)
PUBLISH_OUTCOMES: Final = ("sent", "failed", "skipped")
BREAKER = _gauge("breaker_open", "Processes that send Redis nothing after a row of failures.", mode="livesum")

# --- Sweep, purge, audit -----------------------------------------------------------------------------------------------

SWEPT = _counter("sweep_rows_total", "What sweeps did.", "kind")
SWEEP_KINDS: Final = ("expired", "lapsed", "published")
HELD_BACK = _gauge(
    "sweep_held_back_jobs", "Due, but left for a full queue by the last sweep.", mode="mostrecent"
)
SWEEP_SECONDS = _histogram("sweep_duration_seconds", "How long sweeps took.", buckets=_ROUND_SECONDS)
SWEEP_AT = _gauge("sweep_last_finished_timestamp_seconds", "When a sweep last came to its end.", mode="max")
PURGED = _counter("purge_rows_total", "What purges deleted.", "kind")
PURGE_KINDS: Final = ("keys", "jobs", "messages", "audit", "notices", "artifacts", "files")
PURGE_SECONDS = _histogram("purge_duration_seconds", "How long purges took.", buckets=_ROUND_SECONDS)
PURGE_AT = _gauge("purge_last_finished_timestamp_seconds", "When a purge last came to its end.", mode="max")
VIOLATIONS = _counter("audit_violations_total", "What the self-audit found broken.", "invariant")
INVARIANTS: Final = ("I1", "I3", "I4", "I5", "I10")

OTHER: Final = "other"


@cache
def operation_names() -> frozenset[str]:
    """Of the operations of this release."""
    return frozenset(name for name, _ in operations())


def operation_label(name: str) -> str:
    """The operation's name, if this release knows it."""
    return name if name in operation_names() else OTHER


def start_at_zero() -> None:
    """What has not happened yet is 0, not absent."""
    for counter, labels in (
        (KEYED, KEY_OUTCOMES),
        (DROPPED, DROP_REASONS),
        (PUBLISHED, PUBLISH_OUTCOMES),
        (SWEPT, SWEEP_KINDS),
        (PURGED, PURGE_KINDS),
        (VIOLATIONS, INVARIANTS),
        (HOLDS, ("wait", "stream")),
    ):
        for label in labels:
            counter.labels(label)
    moves = {("submit", State.QUEUED.value)} | {(rule.event.value, rule.target.value) for rule in RULES}
    for operation, (event, state) in product(operation_names(), sorted(moves)):
        MOVES.labels(operation, event, state)
