"""Every metric that processes count: name, labels and buckets. Each label has few values, all known here.

No label holds a path, an id, a key or a tenant. Counters start at 0 in each process, because Prometheus does not see a rise from
a missing series to 1.
"""

from functools import cache
from itertools import product
from typing import Final

from django.conf import settings
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, values

from jobs.registry import operations
from jobs.states import RULES, State
from observability.metrics.multiprocess_ids import open_folder

# Set before the first metric is created. By default prometheus_client names a process's files by its pid, and writes files into
# the current folder if PROMETHEUS_MULTIPROC_DIR is set but empty.
PROCESS_IDS: Final = open_folder(settings.PROMETHEUS_MULTIPROC_DIR)
values.ValueClass = (
    values.MutexValue if PROCESS_IDS is None else values.MultiProcessValue(PROCESS_IDS.own)  # type: ignore[no-untyped-call]
)
disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY: Final = CollectorRegistry()

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
# From a replay served from a cache to the longest statement that the api allows, with its retries.
_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
# Waiting: from an idle worker to a backlog of a day. Running: from an empty operation to the longest that a worker allows.
_JOB_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, _MINUTE, 300, 900, _HOUR, 4 * _HOUR, _DAY)
_STREAM_SECONDS = (0.5, 1, 2.5, 5, 10, 20, 30, 45, 60, 300, _HOUR)
_ROUND_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
# Ages that distinguish the sources of retries (a client's loop, its queue, its nightly run), up to the longest lifetime of
# a key, 30 days.
_AGE_SECONDS = (
    *(1, 10, _MINUTE, 5 * _MINUTE, 30 * _MINUTE, _HOUR, 3 * _HOUR, 6 * _HOUR, 12 * _HOUR, 18 * _HOUR),
    *(_DAY, 2 * _DAY, 3 * _DAY, 7 * _DAY, 14 * _DAY, 30 * _DAY),
)


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(f"semel_{name}", text, labels, registry=REGISTRY)


def _histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...]) -> Histogram:
    return Histogram(f"semel_{name}", text, labels, registry=REGISTRY, buckets=buckets)


def _gauge(name: str, text: str, *labels: str, mode: str) -> Gauge:
    """Create a gauge. `mode` determines how the values of processes are combined; modes with "live" omit dead processes."""
    return Gauge(f"semel_{name}", text, labels, registry=REGISTRY, multiprocess_mode=mode)  # type: ignore[arg-type]


# --- HTTP --------------------------------------------------------------------------------------------------------------

REQUESTS = _counter("http_requests_total", "Requests, by route as in urls.py.", "method", "route", "status")
REQUEST_SECONDS = _histogram(
    "http_request_duration_seconds",
    "From the first middleware to the response; for a long poll or event stream, until it was admitted.",
    *("method", "route"),
    buckets=_REQUEST_SECONDS,
)
OPEN_STREAMS = _gauge("streams_open", "Long polls and event streams that are open now.", "kind", mode="livesum")
STREAM_SECONDS = _histogram(
    "streams_hold_duration_seconds", "How long they were open.", "kind", buckets=_STREAM_SECONDS
)

# --- Idempotency -------------------------------------------------------------------------------------------------------

KEYED = _counter("idempotency_requests_total", "Requests with a key, by outcome.", "outcome")
KEY_OUTCOMES: Final = ("first", "taken_over", "replayed", "waited", "in_progress", "reused")
REPLAY_AGE = _histogram(
    "idempotency_replay_age_seconds", "Age of a key when its response was replayed.", buckets=_AGE_SECONDS
)
REPLAY_LIFE = _histogram(
    "idempotency_replay_lifetime_ratio",
    "Share of its lifetime that a key had passed when its response was replayed; over 1: expired, but its job had not ended.",
    buckets=(0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 1),
)

# --- Jobs --------------------------------------------------------------------------------------------------------------

TRANSITIONS = _counter(
    "job_transitions_total", "Transitions of jobs, by event and new state.", "operation", "event", "state"
)
WAIT_SECONDS = _histogram("job_wait_seconds", "From due to claimed.", "operation", buckets=_JOB_SECONDS)
RUN_SECONDS = _histogram(
    "job_run_seconds", "From claim to settled, per attempt.", "operation", "outcome", buckets=_JOB_SECONDS
)
DROPPED = _counter("deliveries_dropped_total", "Messages that found nothing to claim.", "reason")
# In the first three cases the message was a duplicate.
DROP_REASONS: Final = ("running", "settled", "gone", "blocked", "waiting", "lookup_failed")
STALE = _counter("stale_writes_total", "Attempts that lost their job: the fence refused a write.")

# --- Broker ------------------------------------------------------------------------------------------------------------

PUBLISHED = _counter("publishes_total", "Hints for the broker. A sweep covers those that are not sent.", "outcome")
PUBLISH_OUTCOMES: Final = ("sent", "failed", "skipped")
BREAKER = _gauge("breaker_open", "Processes whose circuit breaker in front of Redis is open.", mode="livesum")

# --- Sweep, purge, audit -----------------------------------------------------------------------------------------------

SWEPT = _counter("sweep_rows_total", "Jobs that sweeps handled.", "kind")
SWEEP_KINDS: Final = ("expired", "lapsed", "hinted", "held", "released")
SWEEP_SECONDS = _histogram("sweep_duration_seconds", "Duration of sweeps.", buckets=_ROUND_SECONDS)
SWEEP_AT = _gauge("sweep_last_finished_timestamp_seconds", "When the last sweep finished.", mode="max")
PURGED = _counter("purge_rows_total", "Rows and files that purges deleted.", "kind")
PURGE_KINDS: Final = ("keys", "jobs", "messages", "audit", "notices", "artifacts", "files")
PURGE_SECONDS = _histogram("purge_duration_seconds", "Duration of purges.", buckets=_ROUND_SECONDS)
PURGE_AT = _gauge("purge_last_finished_timestamp_seconds", "When the last purge finished.", mode="max")
VIOLATIONS = _counter("audit_violations_total", "Violations that the self-audit found.", "invariant")
INVARIANTS: Final = ("I1", "I3", "I4", "I5", "I10")

OTHER: Final = "other"


@cache
def operation_names() -> frozenset[str]:
    """Return the names of this release's operations."""
    return frozenset(name for name, _ in operations())


def operation_label(name: str) -> str:
    """Return the operation's name, or `other` if this release does not know it."""
    return name if name in operation_names() else OTHER


def start_at_zero() -> None:
    """Create the series that have not counted yet, with the value 0."""
    for counter, labels in (
        (KEYED, KEY_OUTCOMES),
        (DROPPED, DROP_REASONS),
        (PUBLISHED, PUBLISH_OUTCOMES),
        (SWEPT, SWEEP_KINDS),
        (PURGED, PURGE_KINDS),
        (VIOLATIONS, INVARIANTS),
        (OPEN_STREAMS, ("wait", "stream")),
    ):
        for label in labels:
            counter.labels(label)
    transitions = {("submit", State.QUEUED.value)} | {(rule.event.value, rule.target.value) for rule in RULES}
    for operation, (event, state) in product(operation_names(), sorted(transitions)):
        TRANSITIONS.labels(operation, event, state)
