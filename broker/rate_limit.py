"""A rate limit in one Redis script (GCRA, a leaky bucket as a meter), so that concurrent requests cannot pass it together."""

from broker.client import quick_redis_client, try_redis

# KEYS[1]: the bucket. ARGV: seconds per request, burst. Returns 0, or the milliseconds until a request would pass.
# It keeps the theoretical arrival time of the next request by Redis's own clock, so that all processes agree.
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


def take_from_bucket(bucket: str, *, per_second: float, burst: int) -> int:
    """Count one request. Return 0 if it is allowed, else the milliseconds until one is allowed. If Redis is down, return 0.

    One round trip, and none while the breaker is open.
    """
    script = quick_redis_client().register_script(_GCRA)
    wait_ms = try_redis(lambda: script(keys=[bucket], args=[1 / per_second, burst]), event="rate_limit.skipped")
    return int(wait_ms or 0)
