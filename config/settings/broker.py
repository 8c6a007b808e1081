"""Redis: hints, wake-ups and rate limits."""

from config.env import env

# --- Redis -----------------------------------------------------------------------------------------------------------

# Broker, wake-ups and rate limits: "redis://:password@host:port/0". Its content may be lost at any time.
REDIS_URL = env.str("REDIS_URL")
# Failures in a row after which nothing is sent for a while: the sweep covers for it, and no rate limit waits for a dead broker.
BREAKER_FAILURES = 3
BREAKER_OPEN_SECONDS = 5.0
# Seconds that connecting to the broker may take.
PUBLISH_CONNECT_SECONDS = 0.5
# Seconds that the broker may take to answer the publisher or the sweep, connecting included. No client waits for that.
PUBLISH_BUDGET_SECONDS = env.float("PUBLISH_BUDGET_SECONDS", default=1.0)
# Messages in a queue at which no hint is added. A worker that takes a hint continues with the backlog, so a fleet needs one per
# process that is idle, and a full queue costs 40 kB of broker memory. The jobs themselves are in PostgreSQL.
HINTS_MAX = env.int("HINTS_MAX", default=64)
