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
# Seconds that the first publication may take before the sweep publishes again.
PUBLISH_GRACE_SECONDS = env.float("PUBLISH_GRACE_SECONDS", default=5.0)
# Seconds between two publications of one job that no worker claims, at most.
PUBLISH_BACKOFF_MAX_SECONDS = 60.0
# Messages in a queue at which the sweep adds no more; publishers stop at half of it. More than a large fleet runs until the next
# sweep, and about 4 MB of broker memory if no worker runs. The jobs themselves are in PostgreSQL.
PUBLISH_QUEUE_CAP = env.int("PUBLISH_QUEUE_CAP", default=5_000)
