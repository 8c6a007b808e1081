"""Celery: workers and beat."""

from config.env import env
from config.settings.broker import REDIS_URL
from config.settings.jobs import BULK_SECONDS, PURGE_SECONDS, SELFAUDIT_SECONDS, SWEEP_SECONDS

# --- Celery ----------------------------------------------------------------------------------------------------------

# Seconds after which an attempt must stop: it is notified 30 s before, killed then, and redelivered 120 s after.
TASK_TIME_LIMIT_SECONDS = env.int("TASK_TIME_LIMIT_SECONDS", default=3_900)
# Seconds after which a sweep or purge that hangs is killed, so that the next tick can run. Both keep to budgets of seconds.
MAINTENANCE_TIME_LIMIT_SECONDS = env.int("MAINTENANCE_TIME_LIMIT_SECONDS", default=120)
CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_TIME_LIMIT = TASK_TIME_LIMIT_SECONDS
CELERY_TASK_SOFT_TIME_LIMIT = TASK_TIME_LIMIT_SECONDS - 30
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": TASK_TIME_LIMIT_SECONDS + 120,
    # Detect a silently cut connection: a PING every ten seconds (celery#8030), answered within five. That is longer than the
    # one second for which a worker's BRPOP waits at the server.
    "health_check_interval": 10,
    "socket_timeout": 5.0,
    "socket_connect_timeout": 5.0,
    "socket_keepalive": True,
    # High before default before low. Round robin, kombu's default, would make them equal.
    "queue_order_strategy": "workers.queue_order:PriorityOrder",
    # Send an acknowledgement once more over a new connection if the old one was dead. It may be repeated.
    "retry_on_timeout": True,
}
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_CREATE_MISSING_QUEUES = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_ACKS_LATE = True
# The broker must not redeliver a task that kills its worker without end. Recovery is the lease's task.
CELERY_TASK_REJECT_ON_WORKER_LOST = False
CELERY_TASK_RETRY_ON_WORKER_LOST = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_MAX_TASKS_PER_CHILD = 1_000
# Seconds that attempts have to end or to release their jobs: ten less than a container's stop grace, enough for a call that has
# just begun. A call that is cut is repeated or reconciled; if neither is possible, an operator must resolve it.
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = env.float("WORKER_SOFT_SHUTDOWN_SECONDS", default=35.0)
# Off: an idle worker would wait those seconds for nothing. There are no delayed tasks to return, and messages are hints.
CELERY_WORKER_ENABLE_SOFT_SHUTDOWN_ON_IDLE = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
# A broker that is full, or has become a replica, answers with an error: reconnect instead of ending the worker.
CELERY_BROKER_CHANNEL_ERROR_RETRY = True
CELERY_DB_REUSE_MAX = 1_000
CELERY_TIMEZONE = "UTC"
# Ticks have a worker of their own. A tick older than a minute is worthless; the limit is not shorter, because the clocks that set
# and check it can differ.
_TICK = {"queue": "maintenance", "expires": 60}
CELERY_BEAT_SCHEDULER = "config.beat.Scheduler"
# Seconds between beat's looks at its schedule, at most: each look updates its liveness file (observability/liveness.py).
CELERY_BEAT_MAX_LOOP_INTERVAL = 10
CELERY_BEAT_SCHEDULE = {
    "sweep": {"task": "workers.sweep", "schedule": SWEEP_SECONDS, "options": _TICK},
    "bulk": {"task": "operators.bulk", "schedule": BULK_SECONDS, "options": _TICK},
    "purge": {"task": "workers.purge", "schedule": PURGE_SECONDS, "options": _TICK},
    "selfaudit": {"task": "workers.selfaudit", "schedule": SELFAUDIT_SECONDS, "options": _TICK},
}
