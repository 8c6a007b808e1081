"""Whether Redis or Valkey keeps what it is given, and whether workers empty its queues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings

from broker.client import redis_client
from jobs.models import Priority
from observability.doctor.findings import compare_clock, judge, ok

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis
    from django.core.checks import CheckMessage

_TIMEOUT_SECONDS = 2.0
_OLDEST = (6, 2)
_QUEUES = (*(priority.name.lower() for priority in Priority), "maintenance")
# A maintenance worker takes each tick at once, and ticks expire after a minute.
_MAINTENANCE_MESSAGES_MAX = 50


def findings() -> Iterator[CheckMessage]:
    """Examine the broker. Raise RedisError if it does not answer."""
    client = redis_client(timeout_seconds=_TIMEOUT_SECONDS)
    info: dict[str, Any] = client.info()
    yield ok("broker.reachable", "The broker answers.")
    version = str(info.get("redis_version", "0"))
    yield judge(
        "broker.version",
        f"Valkey {info['valkey_version']}." if "valkey_version" in info else f"Redis {version}.",
        error=tuple(int(part) for part in version.split(".")[:2]) < _OLDEST,
        means="Semel is tested with Redis 6.2 and later.",
        do="Upgrade Redis, or use Valkey.",
    )
    yield judge(
        "broker.role",
        f"The broker is a {info.get('role')}.",
        error=info.get("role") != "master",
        means="It refuses every write: no message is published, and no job runs.",
        do="Point REDIS_URL at the master.",
    )
    yield judge(
        "broker.policy",
        f"maxmemory-policy is {info.get('maxmemory_policy')}.",
        error=info.get("maxmemory_policy") != "noeviction",
        means="A full broker silently drops queues and messages. Their jobs wait until a sweep publishes them again.",
        do="maxmemory-policy noeviction",
    )
    is_kept, last_write = int(info.get("aof_enabled", 0)) > 0, info.get("aof_last_write_status")
    yield judge(
        "broker.persistence",
        f"The append-only file is on; its last write: {last_write}."
        if is_kept
        else "The append-only file is off.",
        error=is_kept and last_write != "ok",
        warning=not is_kept,
        means="Off: a restart forgets the queues; no job is lost, but a sweep must publish each waiting job again. "
        "Failed writes: the disk is full or missing, and Redis refuses all writes.",
        do="appendonly yes; after failed writes, check the broker's log and disk.",
    )
    used, maximum = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    limit = maximum or int(info.get("total_system_memory", 0))
    source = "" if maximum else " of the machine (maxmemory is not set)"
    yield judge(
        "broker.memory",
        f"{used / 2**20:.0f} of {limit / 2**20:.0f} MiB{source} are in use.",
        error=used >= 0.95 * limit > 0,
        warning=used >= (0.8 if maximum else 0.5) * limit > 0,
        means="A full broker refuses every message. Without a limit the kernel kills it instead.",
        do="Set maxmemory with room to spare, and find large keys: redis-cli --bigkeys.",
    )
    yield compare_clock("broker.clock", lambda: _seconds(client.time()))
    yield _queues(client)


def _queues(client: redis.Redis) -> CheckMessage:
    pipeline = client.pipeline(transaction=False)
    for queue in _QUEUES:
        pipeline.llen(queue)
    lengths = dict(zip(_QUEUES, pipeline.execute(), strict=True))
    messages = ", ".join(f"{queue} {length}" for queue, length in lengths.items())
    full = [queue for queue, length in lengths.items() if length >= settings.PUBLISH_QUEUE_CAP]
    if full:
        return judge(
            "broker.queues",
            f"Full: {', '.join(full)} ({messages}).",
            warning=True,
            means="Jobs arrive faster than workers run them. Beyond PUBLISH_QUEUE_CAP they wait in PostgreSQL; none is lost.",
            do="Start more workers, or find out why they take no messages: python -m observability.liveness worker.",
        )
    return judge(
        "broker.queues",
        f"Messages: {messages}.",
        error=lengths["maintenance"] > _MAINTENANCE_MESSAGES_MAX,
        means="No maintenance worker takes the ticks: no job is published again, no lease is ended, nothing is purged.",
        do="Start one: celery -A config worker -Q maintenance.",
    )


def _seconds(answer: Any) -> float:  # noqa: ANN401 - redis-py's type covers its asynchronous client
    seconds, microseconds = answer
    return int(seconds) + int(microseconds) / 1_000_000
