"""A job's id goes to Celery. A hint: a message that is lost, doubled or late changes nothing but latency."""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings
from kombu.connection import Connection
from kombu.pools import ProducerPool

from broker.circuit_breaker import redis_breaker
from broker.queue_lengths import queue_lengths
from foundation.spans import span
from workers import signals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobs.signals import DueJob

log = structlog.get_logger(__name__)

RUN_JOB_TASK = "workers.run_job"
# How long a look at a queue's length counts: at a few hundred jobs a second and process it is soon told.
_ROOM_SECONDS = 1.0
# When each queue was looked at, and whether it had room. Two threads that look at once do no harm.
_rooms: dict[str, tuple[float, bool]] = {}


@cache
def _producers() -> ProducerPool:
    """Connections that give up soon: a broker that accepts and never answers would block Celery's own for ever."""
    connection = Connection(
        settings.REDIS_URL,
        transport_options={
            "socket_timeout": settings.PUBLISH_BUDGET_SECONDS,
            "socket_connect_timeout": settings.PUBLISH_CONNECT_SECONDS,
            "max_retries": 0,
            "interval_start": 0,
            "interval_step": 0,
            "interval_max": 0,
        },
    )
    # One for each thread of this process that may publish at the same time.
    return ProducerPool(connection.Pool(settings.API_THREADS), settings.API_THREADS)


def publish_jobs(due: Sequence[DueJob]) -> int:
    """How many of the ids reached the broker. Never raises: the rows are still there, and the sweeper publishes them again.

    While the breaker is open nothing is sent. A hung broker costs one time-out (PUBLISH_BUDGET_SECONDS).
    """
    published = failed = 0
    try:
        for job in due:
            if not redis_breaker.allows():
                break
            with span("publish", job_id=str(job.id), queue=job.queue):
                _publish(job)
            redis_breaker.succeeded()
            published += 1
    except Exception as error:  # noqa: BLE001 - kombu lets errors of many libraries through; each means the same here
        redis_breaker.failed()
        failed = 1
        log.warning("publish.failed", error=repr(error), left_to_sweeper=len(due) - published)
    _tell(sent=published, failed=failed, skipped=len(due) - published - failed)
    return published


def _tell(*, sent: int = 0, failed: int = 0, skipped: int = 0) -> None:
    signals.published.send_robust(sender=None, sent=sent, failed=failed, skipped=skipped)


def _publish(job: DueJob) -> None:
    """One LPUSH of a Celery message (protocol 2), put together here: Celery's own `delay` costs four times the CPU."""
    job_id = str(job.id)
    headers = {
        "lang": "py",
        "task": RUN_JOB_TASK,
        "id": job_id,
        "root_id": job_id,
        "parent_id": None,
        "group": None,
        "retries": 0,
        "eta": None,
        "expires": None,
        "timelimit": [None, None],
        "argsrepr": repr((job_id,)),
        "kwargsrepr": "{}",
        "ignore_result": True,
    }
    body: tuple[Any, ...] = (
        (job_id,),
        {},
        {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
    )
    with _producers().acquire(block=True, timeout=settings.PUBLISH_BUDGET_SECONDS) as producer:
        producer.publish(
            body,
            exchange="",
            routing_key=job.queue,
            serializer="json",
            headers=headers,
            correlation_id=job_id,
            retry=False,
        )


def publish_new(due: Sequence[DueJob]) -> int:
    """As `publish_jobs`, of jobs that were just made due, and only while their queue is less than half full.

    The other half is the sweeper's, which goes by age: so that a crowd of new jobs can neither grow the broker without bound
    nor keep those that wait to be published again from ever being so. What is left here it publishes.
    """
    fitting = [job for job in due if _has_room_for_new(job.queue)]
    if len(fitting) < len(due):
        _tell(skipped=len(due) - len(fitting))
    return publish_jobs(fitting)


def _has_room_for_new(queue: str) -> bool:
    """By a look at the broker that is at most a second old: that bounds what gets in beyond the half."""
    looked_at, has_room = _rooms.get(queue, (float("-inf"), True))
    if time.monotonic() - looked_at < _ROOM_SECONDS:
        return has_room
    lengths = queue_lengths([queue])
    if lengths is None:
        return False
    has_room = bool(lengths[queue] < settings.PUBLISH_QUEUE_CAP // 2)
    _rooms[queue] = (time.monotonic(), has_room)
    return has_room
