"""Metrics that are queried from database and broker at each scrape. They are the same in every process: never add them up."""

from collections.abc import Callable, Iterator, Mapping

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from broker.queue_lengths import queue_lengths
from idempotency.record_purge import purge_lag_seconds
from jobs.models import Priority
from jobs.queries.statistics import COUNTED_STATES, count_by_operation, due_jobs, statement_timeout
from observability.metrics.registry import operation_label, operation_names

log = structlog.get_logger(__name__)

# Maximum jobs that are counted: a few milliseconds by index. Beyond it the age of the oldest matters more than the number.
COUNTED = 10_000
_QUEUES = tuple(priority.name.lower() for priority in Priority)

# By name: the help text, and the labels.
_METRICS: Mapping[str, tuple[str, ...]] = {
    "up": ("1 if the server answers.", "component"),
    "scrape_question_failed": ("1 if a query of the scrape failed.", "question"),
    "queue_due_jobs": (
        f"Due jobs without a concurrency key that are not paused, counted up to {COUNTED:,} per queue.",
        "queue",
    ),
    "queue_oldest_due_age_seconds": ("How long the oldest of these jobs has been due.", "queue"),
    "jobs": (f"Jobs that have not ended, counted up to {COUNTED:,} per state.", "operation", "state"),
    "purge_lag_seconds": ("How long ago the oldest key that can be purged expired.",),
    "broker_queue_messages": ("Messages that wait in a queue of the broker.", "queue"),
}


def _gauge(name: str) -> GaugeMetricFamily:
    text, *labels = _METRICS[name]
    return GaugeMetricFamily(f"semel_{name}", text, labels=labels)


class DatabaseCollector(Collector):
    """Runs each query by itself: one that fails or takes too long costs only its own metrics.

    If a server is down, it reports `up` as 0 within the scrape time-out.
    """

    def describe(self) -> list[GaugeMetricFamily]:
        """Return all metrics without their values, and without a query."""
        return [_gauge(name) for name in _METRICS]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Run up to a dozen statements, each served by an index, and one round trip to the broker."""
        up = _gauge("up")
        failed = _gauge("scrape_question_failed")
        is_up = True
        for name, query in (("due", _due), ("live", _live), ("purge", _purge_lag)):
            metrics = _run(name, query) if is_up else None
            is_up = is_up and (metrics is not None or connection.is_usable())
            failed.add_metric([name], metrics is None)
            yield from metrics or ()
        up.add_metric(["postgres"], is_up)
        lengths = queue_lengths([*_QUEUES, "maintenance"])
        up.add_metric(["redis"], lengths is not None)
        messages = _gauge("broker_queue_messages")
        for queue, length in (lengths or {}).items():
            messages.add_metric([queue], length)
        yield from (messages, up, failed)


def _run(name: str, query: Callable[[], list[GaugeMetricFamily]]) -> list[GaugeMetricFamily] | None:
    try:
        with statement_timeout(milliseconds=settings.METRICS_STATEMENT_TIMEOUT_MS):
            return query()
    except (DatabaseError, InterfaceError) as error:
        log.warning("metrics.question_failed", question=name, error=repr(error))
        return None


def _due() -> list[GaugeMetricFamily]:
    queues = {due.queue: due for due in due_jobs(at_most=COUNTED)}
    count = _gauge("queue_due_jobs")
    age = _gauge("queue_oldest_due_age_seconds")
    for queue in dict.fromkeys((*_QUEUES, *queues)):
        due = queues.get(queue)
        count.add_metric([queue], due.count if due else 0)
        age.add_metric([queue], due.oldest_seconds if due else 0)
    return [count, age]


def _live() -> list[GaugeMetricFamily]:
    jobs = _gauge("jobs")
    for state in COUNTED_STATES:
        counts = dict.fromkeys(operation_names(), 0)
        for operation, count in count_by_operation(state, at_most=COUNTED).items():
            label = operation_label(operation)
            counts[label] = counts.get(label, 0) + count
        for operation, count in counts.items():
            jobs.add_metric([operation, state], count)
    return [jobs]


def _purge_lag() -> list[GaugeMetricFamily]:
    lag = _gauge("purge_lag_seconds")
    # The purge examines as many expired keys in one transaction.
    lag.add_metric([], purge_lag_seconds(settings.BATCH_ROWS))
    return [lag]
