"""Whether Redis, or Valkey, keeps what it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings

from broker.client import redis_client
from jobs.models import Priority
from observability.doctor.clocks import compare_clock
from observability.doctor.finding import Finding, error, graded, ok, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

_SECONDS = 2.0
_OLDEST = (6, 2)
_QUEUES = (*(priority.name.lower() for priority in Priority), "maintenance")
# Sweeps and purges are taken at once; their messages expire after a minute.
_MAINTENANCE_WAITS = 50


def connect() -> redis.Redis:
    """A client that gives up soon."""
    return redis_client(timeout_seconds=_SECONDS)


def look_at_broker(broker: redis.Redis) -> Iterator[Finding]:
    """Version, role, policy, persistence, memory, clock, queues."""
    info: dict[str, Any] = broker.info()
    yield _version(info)
    if info.get("role") != "master":
        yield error(
            "broker.role",
            f"The broker is a {info.get('role')}.",
            means="It refuses every write: no job is published, and none runs.",
            do="Point REDIS_URL at the master.",
        )
    policy = info.get("maxmemory_policy")
    if policy != "noeviction":
        yield error(
            "broker.policy",
            f"maxmemory-policy is {policy}.",
            means="A full broker throws away queues and messages in silence: each costs its job a publication pause.",
            do="maxmemory-policy noeviction",
        )
    else:
        yield ok("broker.policy", "maxmemory-policy is noeviction.")
    yield from _persistence(info)
    yield _memory(info)
    yield compare_clock("broker.clock", lambda: _seconds(broker.time()))
    yield from _queues(broker)


def _version(info: dict[str, Any]) -> Finding:
    name = str(info.get("redis_version", "0"))
    if tuple(int(part) for part in name.split(".")[:2]) < _OLDEST:
        return error(
            "broker.version",
            f"Redis {name}.",
            means="Semel is tested from version 6.2 on.",
            do="Upgrade Redis, or use Valkey.",
        )
    server = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {name}"
    return ok("broker.version", f"{server}.")


def _persistence(info: dict[str, Any]) -> Iterator[Finding]:
    if not int(info.get("aof_enabled", 0)):
        yield warning(
            "broker.persistence",
            "The append-only file is off.",
            means="A restart forgets the queues. No job is lost, but each that waits is the sweeper's to publish.",
            do="appendonly yes",
        )
    elif info.get("aof_last_write_status") != "ok":
        yield error(
            "broker.persistence",
            "The last write of the append-only file failed.",
            means="The disk is full or gone: Redis refuses writes until it is there again.",
            do="Look at the broker's log and disk.",
        )
    else:
        yield ok("broker.persistence", "The append-only file is on.")


def _memory(info: dict[str, Any]) -> Finding:
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    limited = limit > 0
    limit = limit or int(info.get("total_system_memory", 0))
    whose = "" if limited else " of the machine's (maxmemory is not set)"
    says = f"{used / 2**20:.0f} of {limit / 2**20:.0f} MiB{whose} are in use."
    return graded(
        "broker.memory",
        used / limit if limit else 0.0,
        says,
        warn_at=0.8 if limited else 0.5,
        fail_at=0.95,
        means="A full broker refuses every message; without a limit the kernel ends it instead.",
        do="Set maxmemory with room to spare; see which keys are large: redis-cli --bigkeys.",
    )


def _queues(broker: redis.Redis) -> Iterator[Finding]:
    pipeline = broker.pipeline(transaction=False)
    for queue in _QUEUES:
        pipeline.llen(queue)
    lengths = dict(zip(_QUEUES, pipeline.execute(), strict=True))
    told = ", ".join(f"{queue} {length}" for queue, length in lengths.items())
    full = [queue for queue, length in lengths.items() if length >= settings.PUBLISH_QUEUE_CAP]
    if full:
        yield warning(
            "broker.queues",
            f"Full: {', '.join(full)} ({told}).",
            means="More work than the workers do. Jobs wait in PostgreSQL beyond PUBLISH_QUEUE_CAP; none is lost.",
            do="Start more workers, or find out why they do not take messages: python -m observability.liveness worker.",
        )
    elif lengths["maintenance"] > _MAINTENANCE_WAITS:
        yield error(
            "broker.queues",
            f"Nobody takes the ticks ({told}).",
            means="No maintenance worker: nothing is published again, no lease ended, nothing purged.",
            do="Start one: celery -A config worker -Q maintenance.",
        )
    else:
        yield ok("broker.queues", f"Messages: {told}.")


def _seconds(told: Any) -> float:  # noqa: ANN401 - redis-py's type covers its asynchronous client
    seconds, micros = told
    return int(seconds) + int(micros) / 1_000_000
