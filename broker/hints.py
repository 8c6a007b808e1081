"""Hints: Celery messages with a job's id. A hint that is lost, doubled or late changes nothing but latency."""

import base64
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

import redis
import structlog
from django.conf import settings
from django.db import transaction

from broker import signals
from broker.circuit_breaker import redis_breaker
from broker.client import redis_client
from broker.queue_lengths import queue_lengths
from foundation.fault_points import reach
from foundation.spans import span

log = structlog.get_logger(__name__)

RUN_JOB_TASK: Final = "workers.run_job"
# Seconds for which one reading of a queue's length is reused. New jobs can exceed half of the queue by what arrives in this time.
_ROOM_SECONDS = 1.0
# For each queue: when its length was read, and whether it had room. If two threads read it at the same time, the result is
# the same.
_rooms: dict[str, tuple[float, bool]] = {}


@dataclass(frozen=True)
class DueJob:
    """A queued job that a worker may claim now."""

    id: UUID
    queue: str


def publish_hint_on_commit(due: DueJob) -> None:
    """Publish a hint of this newly due job after this transaction's commit.

    Robust: a failure here must not turn a committed answer into an error; the sweep finds the job in any case.
    """
    transaction.on_commit(lambda: _publish_committed(due), robust=True)


def _publish_committed(due: DueJob) -> None:
    reach("after_commit")
    publish_new_hints([due])


def publish_new_hints(due: Sequence[DueJob]) -> int:
    """Publish hints as `publish_hints` does, for jobs that just became due, while their queue is less than half full.

    The other half is reserved for the sweep, which publishes the oldest jobs first. So new jobs cannot fill the broker, and they
    cannot delay older jobs. The sweep also publishes the jobs that are skipped here.
    """
    fitting = [job for job in due if _has_room_for_new(job.queue)]
    if len(fitting) < len(due):
        _count(skipped=len(due) - len(fitting))
    return publish_hints(fitting)


def publish_hints(due: Sequence[DueJob]) -> int:
    """Publish a hint of each job until one fails; return how many Redis took. Never raises for Redis.

    While the breaker is open nothing is sent. A hung broker costs one time-out (PUBLISH_BUDGET_SECONDS).
    """
    sent = failed = 0
    try:
        for job in due:
            if not redis_breaker.allows():
                break
            with span("publish", job_id=str(job.id), queue=job.queue):
                _send(job)
            redis_breaker.succeeded()
            sent += 1
    except redis.RedisError as error:
        redis_breaker.failed()
        failed = 1
        log.warning("publish.failed", error=repr(error), left_to_sweep=len(due) - sent)
    _count(sent=sent, failed=failed, skipped=len(due) - sent - failed)
    return sent


def _count(*, sent: int = 0, failed: int = 0, skipped: int = 0) -> None:
    signals.hints_published.send_robust(sender=None, sent=sent, failed=failed, skipped=skipped)


def _send(job: DueJob) -> None:
    """Push the message as kombu's Redis transport stores it (Celery protocol 2).

    Built here because Celery's own `delay` costs ten times the CPU of the LPUSH, and a second connection pool.
    """
    job_id = str(job.id)
    body = [[job_id], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    message = {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": RUN_JOB_TASK,
            "id": job_id,
            "root_id": job_id,
            "retries": 0,
            "argsrepr": repr((job_id,)),
            "kwargsrepr": "{}",
            "ignore_result": True,
        },
        "properties": {
            "correlation_id": job_id,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": job.queue},
            "priority": 0,
            "body_encoding": "base64",
            # Unique for each message: kombu keeps unacknowledged messages under it.
            "delivery_tag": str(uuid4()),
        },
    }
    redis_client().lpush(job.queue, json.dumps(message))


def _has_room_for_new(queue: str) -> bool:
    looked_at, has_room = _rooms.get(queue, (float("-inf"), True))
    if time.monotonic() - looked_at < _ROOM_SECONDS:
        return has_room
    lengths = queue_lengths([queue])
    if lengths is None:
        return False
    has_room = bool(lengths[queue] < settings.PUBLISH_QUEUE_CAP // 2)
    _rooms[queue] = (time.monotonic(), has_room)
    return has_room
