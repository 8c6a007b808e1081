"""Hints: Celery messages that say: run this job if it is due, then help with the backlog of its queue.

A hint that is lost, doubled or late changes nothing but latency.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

from redis.client import Pipeline

RUN_JOB_TASK: Final = "workers.run_job"

# The message as kombu's Redis transport stores it (Celery protocol 2), with the values in place that %-formatting inserts. Built
# here because Celery's own `delay` costs ten times the CPU of the LPUSH, and a second connection pool. No value needs escaping.
# delivery_tag is unique for each message: kombu keeps unacknowledged messages under it.
_MESSAGE: Final = (
    r'{"body": "[[\"%(id)s\", \"%(queue)s\"], {}, {\"callbacks\": null, \"errbacks\": null, \"chain\": null, \"chord\": null}]",'
    r' "content-encoding": "utf-8", "content-type": "application/json", "headers": {"lang": "py", "task": "%(task)s",'
    r' "id": "%(id)s", "root_id": "%(id)s", "retries": 0, "argsrepr": "(\"%(id)s\", \"%(queue)s\")", "kwargsrepr": "{}",'
    r' "ignore_result": true}, "properties": {"correlation_id": "%(id)s", "delivery_mode": 2, "delivery_info":'
    r' {"exchange": "", "routing_key": "%(queue)s"}, "priority": 0, "delivery_tag": "%(tag)s"}}'
)

# KEYS[1]: a queue. ARGV: the length at which it is full, then messages. Returns how many of them fitted.
_PUSH: Final = """
local room = math.max(0, tonumber(ARGV[1]) - redis.call('LLEN', KEYS[1]))
local pushed = math.min(room, #ARGV - 1)
for n = 2, pushed + 1 do redis.call('LPUSH', KEYS[1], ARGV[n]) end
return pushed
"""
_PUSH_DIGEST: Final = hashlib.sha1(_PUSH.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class DueJob:
    """A queued job that a worker may claim now, or in so many seconds."""

    id: UUID
    queue: str
    in_seconds: float = 0.0


def add_push(pipeline: Pipeline, *, queue: str, job_ids: Sequence[UUID], full_at: int, by_digest: bool) -> None:
    """Add to the pipeline: push a hint of each job while the queue holds fewer than `full_at` messages. It answers how many.

    by_digest: send the script's digest only. A server that does not know the script answers with NoScriptError.
    """
    messages = [_message(job_id, queue) for job_id in job_ids]
    if by_digest:
        pipeline.evalsha(_PUSH_DIGEST, 1, queue, full_at, *messages)
    else:
        pipeline.eval(_PUSH, 1, queue, full_at, *messages)


def _message(job_id: UUID, queue: str) -> str:
    return _MESSAGE % {"id": job_id, "queue": queue, "task": RUN_JOB_TASK, "tag": uuid4()}
