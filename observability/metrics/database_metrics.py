"""What the database and the broker say when they are asked: the same whichever process asks, so never to be added up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from broker.queue_lengths import queue_lengths
from idempotency.record_purge import purge_lag_seconds
from jobs.models import Priority
from jobs.queries.backlog import LIVE, bounded, count_live, due_jobs
from observability.metrics.registry import operation_label, operation_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

log = structlog.get_logger(__name__)

# How far jobs are counted: a few milliseconds by index. Beyond it the age of the oldest says more than their number.
COUNTED = 10_000
# How many expired keys are looked at for one that can be deleted: as many as one transaction of the purge touches.
_OVERDUE = settings.BATCH_ROWS
_QUEUES = tuple(priority.name.lower() for priority in Priority)


# Each figure: what it is, and its labels.
_FIGURES: Mapping[str, tuple[str, ...]] = {
    "up": ("Whether the server answers.", "component"),
    "scrape_question_failed": ("Whether a question to the database got no answer.", "question"),
    "queue_due_jobs": (
        f"Jobs that are due, in no line and not paused, counted up to {COUNTED:,} a queue.",
        "queue",
    ),
    "queue_oldest_due_age_seconds": ("For how long the one that waits longest has been due.", "queue"),
    "jobs": (f"Jobs that have not ended, counted up to {COUNTED:,} a state.", "operation", "state"),
    "purge_lag_seconds": ("For how long the oldest key that could be deleted has waited for it.",),
    "broker_queue_messages": ("Messages that wait in a queue of the broker.", "queue"),
    "broker_queue_cap_messages": ("As many as the sweeper lets a queue have.",),
}


def _gauge(name: str) -> GaugeMetricFamily:
    text, *labels = _FIGURES[name]
    return GaugeMetricFamily(f"semel_{name}", text, labels=labels)


class StandingCollector(Collector):
    """Asks the servers, each question by itself: one that takes too long leaves out its own figures and no others.

    A server that is away is told as such, within a scrape's time: what processes have counted is answered all the same.
    """

    def describe(self) -> list[GaugeMetricFamily]:
        """All figures that there can be, without asking anybody."""
        return [_gauge(name) for name in _FIGURES]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Up to a dozen statements by index, and one round trip to the broker."""
        up = _gauge("up")
        failed = _gauge("scrape_question_failed")
        is_up = True
        for name, question in (("due", _due), ("live", _live), ("purge", _purge_lag)):
            answer = _ask(name, question) if is_up else None
            is_up = is_up and (answer is not None or connection.is_usable())
            failed.add_metric([name], answer is None)
            yield from answer or ()
        up.add_metric(["postgres"], is_up)
        lengths = queue_lengths([*_QUEUES, "maintenance"])
        up.add_metric(["redis"], lengths is not None)
        messages = _gauge("broker_queue_messages")
        for queue, length in (lengths or {}).items():
            messages.add_metric([queue], length)
        cap = _gauge("broker_queue_cap_messages")
        cap.add_metric([], settings.PUBLISH_QUEUE_CAP)
        yield from (messages, cap, up, failed)


def _ask(name: str, question: Callable[[], Iterable[GaugeMetricFamily]]) -> list[GaugeMetricFamily] | None:
    try:
        with bounded(milliseconds=settings.METRICS_STATEMENT_TIMEOUT_MS):
            return list(question())
    except (DatabaseError, InterfaceError) as error:
        log.warning("metrics.question_failed", question=name, error=repr(error))
        return None


def _due() -> Iterator[GaugeMetricFamily]:
    found = {due.queue: due for due in due_jobs(at_most=COUNTED)}
    count = _gauge("queue_due_jobs")
    age = _gauge("queue_oldest_due_age_seconds")
    for queue in dict.fromkeys((*_QUEUES, *found)):
        due = found.get(queue)
        count.add_metric([queue], due.count if due else 0)
        age.add_metric([queue], due.oldest_seconds if due else 0)
    return iter((count, age))


def _live() -> Iterator[GaugeMetricFamily]:
    jobs = _gauge("jobs")
    for state in LIVE:
        counts = dict.fromkeys(operation_names(), 0)
        for operation, count in count_live(state, at_most=COUNTED).items():
            label = operation_label(operation)
            counts[label] = counts.get(label, 0) + count
        for operation, count in counts.items():
            jobs.add_metric([operation, state], count)
    return iter((jobs,))


def _purge_lag() -> Iterator[GaugeMetricFamily]:
    lag = _gauge("purge_lag_seconds")
    lag.add_metric([], purge_lag_seconds(_OVERDUE))
    return iter((lag,))
