"""How full the broker is, asked under the publisher's time-outs and breaker."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import redis
import structlog
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from broker.circuit_breaker import redis_breaker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

log = structlog.get_logger(__name__)

# A list that nobody ever makes.
_NO_LIST = "semel:no-list"


@cache
def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(
        url,
        socket_timeout=settings.PUBLISH_BUDGET_SECONDS,
        socket_connect_timeout=settings.PUBLISH_CONNECT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


def queue_lengths(queues: Sequence[str]) -> Mapping[str, int] | None:
    """How many messages wait in each queue; None where the broker is down, hung or would take no more. Never raises for it.

    One round trip, and none while the breaker is open. LPUSHX writes nothing, since its list is not there, but is refused
    like any write by a broker that is full or only a replica: so that nothing is marked for a broker that takes nothing.
    """
    if not redis_breaker.allows():
        return None
    pipeline = _client(settings.REDIS_URL).pipeline(transaction=False)
    for queue in queues:
        pipeline.llen(queue)
    pipeline.lpushx(_NO_LIST, "")
    try:
        *lengths, _ = pipeline.execute()
    except redis.RedisError as error:
        redis_breaker.failed()
        log.warning("broker.unavailable", error=repr(error))
        return None
    redis_breaker.succeeded()
    return dict(zip(queues, lengths, strict=True))
