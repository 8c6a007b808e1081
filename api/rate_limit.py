"""Requests per second and tenant, counted in Redis by one script (GCRA, a leaky bucket as a meter).

DRF's own throttle reads and writes in two steps: 27 of 32 concurrent requests passed a limit of 5 a minute.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import redis
import structlog
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry
from rest_framework.throttling import BaseThrottle

from accounts.authentication import principal_of
from broker.circuit_breaker import redis_breaker

if TYPE_CHECKING:
    from rest_framework.request import Request
    from rest_framework.views import APIView

log = structlog.get_logger(__name__)

# KEYS[1]: the bucket. ARGV: seconds per request, burst. Returns 0, or the milliseconds until a request would pass.
# It keeps the theoretical arrival time of the next request; Redis's own clock, so that processes agree.
_GCRA = """
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1000000
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local tat = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now)
local early = tat - now - interval * burst
if early > 0 then return math.ceil(early * 1000) end
redis.call('SET', KEYS[1], string.format('%.6f', tat + interval), 'PX', math.ceil((tat + interval - now) * 1000) + 1000)
return 0
"""


@cache
def _script() -> Any:  # noqa: ANN401 - redis-py types a registered script loosely
    client = redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=settings.PUBLISH_CONNECT_SECONDS / 2,
        socket_connect_timeout=settings.PUBLISH_CONNECT_SECONDS / 2,
        retry=Retry(NoBackoff(), 0),
    )
    return client.register_script(_GCRA)


class TenantRateLimit(BaseThrottle):
    """Refuses a tenant's requests over its rate. Fails open: without Redis there is no limit, and no error either."""

    _wait_ms = 0

    def allow_request(self, request: Request, view: APIView) -> bool:  # noqa: ARG002 - DRF's signature
        """Whether the request is within the limit; one Redis round trip, none where no limit is set."""
        rate = settings.RATE_LIMIT_PER_SECOND
        if rate == 0 or not redis_breaker.allows():
            return True
        bucket = f"semel:rate:{principal_of(request).scope}"
        try:
            self._wait_ms = _script()(keys=[bucket], args=[1 / rate, settings.RATE_LIMIT_BURST])
        except redis.RedisError as error:
            redis_breaker.failed()
            log.warning("rate_limit.skipped", error=repr(error))
            return True
        redis_breaker.succeeded()
        return self._wait_ms == 0

    def wait(self) -> float:
        """Seconds until a request would pass."""
        return self._wait_ms / 1000
