"""Check that Redis or Valkey persists its data, and that workers empty its queues."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from django.core.checks import CheckMessage

from broker.client import redis_client
from jobs.models import Priority
from observability.doctor.findings import compare_clock, judge

if TYPE_CHECKING:
    import redis

_TIMEOUT_SECONDS = 2.0
_OLDEST = (6, 2)
_QUEUES = (*(priority.name.lower() for priority in Priority), "maintenance")
# A maintenance worker takes each tick at once, and ticks expire after a minute.
_MAINTENANCE_MESSAGES_MAX = 50


def findings() -> Iterator[CheckMessage]:
    """Examine the broker. Raise RedisError if it does not answer."""
    client = redis_client(timeout_seconds=_TIMEOUT_SECONDS)
    info: dict[str, Any] = client.info()
    yield judge("broker.reachable", "The broker answers.")
    version = str(info.get("redis_version", "0"))
    name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {version}"
    is_old = tuple(int(part) for part in version.split(".")[:2]) < _OLDEST
    yield judge("broker.version", f"{name}.", error=is_old)
    role, policy = info.get("role"), info.get("maxmemory_policy")
    yield judge("broker.role", f"The broker is a {role}.", error=role != "master")
    yield judge("broker.policy", f"maxmemory-policy is {policy}.", error=policy != "noeviction")
    yield _persistence(info)
    yield _memory(info)
    yield compare_clock("broker.clock", lambda: _seconds(client.time()))
    yield _queues(client)


def _persistence(info: Mapping[str, Any]) -> CheckMessage:
    check, last_write = "broker.persistence", info.get("aof_last_write_status")
    if not int(info.get("aof_enabled", 0)):
        return judge(check, "The append-only file is off.", warning=True, advice=f"{check}.off")
    found = f"The append-only file is on; its last write: {last_write}."
    return judge(check, found, error=last_write != "ok", advice=f"{check}.failing")


def _memory(info: Mapping[str, Any]) -> CheckMessage:
    used, maximum = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    limit = maximum or int(info.get("total_system_memory", 0))
    source = "" if maximum else " of the machine (maxmemory is not set)"
    return judge(
        "broker.memory",
        f"{used / 2**20:.0f} of {limit / 2**20:.0f} MiB{source} are in use.",
        error=used >= 0.95 * limit > 0,
        warning=used >= (0.8 if maximum else 0.5) * limit > 0,
    )


def _queues(client: redis.Redis) -> CheckMessage:
    pipeline = client.pipeline(transaction=False)
    for queue in _QUEUES:
        pipeline.llen(queue)
    lengths = dict(zip(_QUEUES, pipeline.execute(), strict=True))
    check, found = "broker.queues", ", ".join(f"{queue} {length}" for queue, length in lengths.items())
    is_stuck = lengths["maintenance"] > _MAINTENANCE_MESSAGES_MAX
    return judge(check, f"Messages: {found}.", error=is_stuck, advice=f"{check}.ticks")


def _seconds(answer: Any) -> float:  # noqa: ANN401 - redis-py's type covers its asynchronous client
    seconds, microseconds = answer
    return int(seconds) + int(microseconds) / 1_000_000
