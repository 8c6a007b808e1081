"""Our clients of Redis. Celery connects by itself, with settings.CELERY_BROKER_TRANSPORT_OPTIONS."""

from collections.abc import Callable
from functools import cache
from typing import Any, Final, TypeVar

import redis
import redis.asyncio
import structlog
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from broker.circuit_breaker import redis_breaker

log = structlog.get_logger(__name__)
T = TypeVar("T")

# Seconds that a subscription may take to connect. No request waits for it, and the listener retries for ever.
_SUBSCRIBE_CONNECT_SECONDS: Final = 2.0
# redis-py repeats nothing by itself: a time-out must reach the circuit breaker, and a subscriber must learn that it missed hints.
_OPTIONS: Final[dict[str, Any]] = {"retry": Retry(NoBackoff(), 0)}


def redis_client(*, timeout_seconds: float | None = None) -> redis.Redis:
    """Return this process's client with this time-out for connecting and for each answer (default: PUBLISH_BUDGET_SECONDS).

    Safe to share between threads: each command takes a connection from the client's pool.
    """
    budget = settings.PUBLISH_BUDGET_SECONDS if timeout_seconds is None else timeout_seconds
    return _client(settings.REDIS_URL, budget, min(budget, settings.PUBLISH_CONNECT_SECONDS))


def quick_redis_client() -> redis.Redis:
    """Return the client for the one call that a request waits for (the rate limit), with a short time-out."""
    return redis_client(timeout_seconds=settings.PUBLISH_CONNECT_SECONDS / 2)


def subscribing_client(url: str) -> redis.asyncio.Redis:
    """Return a client for one subscription. It waits for messages without a time-out."""
    return redis.asyncio.Redis.from_url(url, socket_connect_timeout=_SUBSCRIBE_CONNECT_SECONDS, **_OPTIONS)


def try_redis(command: Callable[[], T], *, event: str) -> T | None:
    """Return what the command returned; None while the breaker is open, or if Redis failed (logged as `event`)."""
    if not redis_breaker.allows():
        return None
    try:
        answer = command()
    except redis.RedisError as error:
        redis_breaker.failed()
        log.warning(event, error=repr(error))
        return None
    redis_breaker.succeeded()
    return answer


@cache
def _client(url: str, seconds: float, connect_seconds: float) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=seconds, socket_connect_timeout=connect_seconds, **_OPTIONS)
