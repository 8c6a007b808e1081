"""Whoever waits for a job is woken: one PUBLISH for each event of a job. A hint: waiters also look for themselves."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import redis
import structlog
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from broker.circuit_breaker import redis_breaker
from broker.wakeup_channel import CHANNEL, encode

if TYPE_CHECKING:
    from broker.wakeup_channel import JobChange

log = structlog.get_logger(__name__)


@cache
def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(
        url,
        socket_timeout=settings.PUBLISH_CONNECT_SECONDS / 2,
        socket_connect_timeout=settings.PUBLISH_CONNECT_SECONDS / 2,
        retry=Retry(NoBackoff(), 0),
    )


def publish_wakeup(change: JobChange) -> bool:
    """Whether Redis took the hint. Never raises for Redis' sake; while the breaker is open nothing is sent.

    One round trip. A hung Redis costs one time-out, which the breaker shares with the publisher and the rate limit.
    """
    if not redis_breaker.allows():
        return False
    try:
        _client(settings.REDIS_URL).publish(CHANNEL, encode(change))
    except redis.RedisError as error:
        redis_breaker.failed()
        log.warning("wakeup.skipped", error=repr(error))
        return False
    redis_breaker.succeeded()
    return True
