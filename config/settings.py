"""Every setting of Semel, with its unit, its default and the reason for it. The environment is read here and nowhere else."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from config.env import BASE_DIR, PROCESS, env, kind_of_process
from foundation.processes import Process

# --- Django ----------------------------------------------------------------------------------------------------------

# For developers alone: Django explains its errors in full, settings included, and logs are written for people.
DEBUG = env.bool("DEBUG", default=False)
# Signs the admin's sessions: a long random string. A new one logs everybody out, and that is all.
SECRET_KEY = env.str("SECRET_KEY")
# By which names clients reach us: any other is refused, since addresses in answers are made of them.
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
# Behind a proxy that ends TLS: it must set X-Forwarded-Proto itself and drop the client's.
SECURE_PROXY_SSL_HEADER = (
    ("HTTP_X_FORWARDED_PROTO", "https") if env.bool("BEHIND_TLS_PROXY", default=False) else None
)
# The admin's cookies go over TLS alone; false only to log in over plain HTTP on one's own machine.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = env.bool("SECURE_COOKIES", default=True)
# The API answers on the address it was asked at: the proxy redirects to TLS, since clients drop credentials on a redirect.
SECURE_SSL_REDIRECT = False
# Seconds for which browsers are told to come by TLS only: 0, since the proxy that ends TLS says so, for the whole of its name.
SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", default=0)
SILENCED_SYSTEM_CHECKS = [
    "security.W004",
    "security.W008",
]  # both belong to the proxy, see above

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
CSRF_FAILURE_VIEW = "api.problems.csrf_failed"
APPEND_SLASH = False  # a redirect would lose the body of a POST
USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = False
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True  # the admin's own files, from where they are installed
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
]

# Our packages: each logs under its own name.
ROOMS = (
    "accounts",
    "api",
    "broker",
    "config",
    "foundation",
    "idempotency",
    "jobs",
    "observability",
    "operations",
    "operators",
    "streams",
    "workers",
)
INSTALLED_APPS = [
    "config.apps.OperatorAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "accounts",
    "idempotency",
    "jobs",
    "operations.payments",
    "workers",
    "api",
    "observability",
    "operators",
    "config",
]

MIDDLEWARE = [
    "observability.metrics.requests.MetricsMiddleware",
    "api.request_id.RequestIdMiddleware",
    "observability.access_log.AccessLogMiddleware",
    "api.header_limit.HeaderLimitMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "api.static_files.StaticFilesMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "api.content_length.ContentLengthMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# --- PostgreSQL: the truth ---------------------------------------------------------------------------------------------

# Milliseconds that one statement may run, that it may wait for a lock, and that a transaction may stand idle: short where a
# client waits, long where a job works, none for migrations.
POSTGRES_TIMEOUTS_MS = {
    Process.API: (5_000, 2_000, 10_000),
    Process.STREAMS: (5_000, 2_000, 10_000),
    Process.WORKER: (60_000, 10_000, 60_000),
    Process.MANAGE: (0, 0, 0),
}
# What each kind of process asks of its sessions.
POSTGRES_SESSION = {
    process: (
        f"-c statement_timeout={statement} -c lock_timeout={lock} -c idle_in_transaction_session_timeout={idle} "
        # The protocol is built on it: a racing duplicate under REPEATABLE READ would fail with 40001.
        "-c default_transaction_isolation=read\\ committed"
    )
    for process, (statement, lock, idle) in POSTGRES_TIMEOUTS_MS.items()
}
_STATEMENT_TIMEOUT_MS = POSTGRES_TIMEOUTS_MS[PROCESS][0]

# Seconds beyond a statement's time that the client waits for the server to say that it is over: a frozen one says nothing.
_ANSWER_SLACK_SECONDS = 2.0

# The database of all jobs and keys, "postgres://user:password@host:port/name": a primary, never a replica.
DATABASES = {
    "default": {
        **env.db("DATABASE_URL"),
        "ENGINE": "config.patches.postgresql",
        "ATOMIC_REQUESTS": False,
        # A connection lives as long as its thread: opening one costs more than a whole request.
        # Not under ASGI, where each request has a thread of its own, and a kept connection would outlive it for nobody.
        "CONN_MAX_AGE": 0 if PROCESS is Process.STREAMS else None,
        # One cheap statement a request, so that a database restart costs nobody an error afterwards.
        "CONN_HEALTH_CHECKS": True,
        "DISABLE_SERVER_SIDE_CURSORS": True,  # PgBouncer in transaction mode
        "OPTIONS": {
            # Seconds, for a kept connection's health check as well.
            "connect_timeout": 3,
            "answer_seconds": _STATEMENT_TIMEOUT_MS / 1_000 + _ANSWER_SLACK_SECONDS
            if _STATEMENT_TIMEOUT_MS
            else None,
            # A cut network is noticed within seconds: in sending by the first, in waiting for an answer by the others.
            "tcp_user_timeout": 10_000,  # milliseconds
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "application_name": f"semel-{PROCESS}",
            "options": POSTGRES_SESSION[PROCESS],
        },
    },
}

# --- HTTP ------------------------------------------------------------------------------------------------------------

# Bytes of a request body; a job's input is a description of work, not the data itself.
DATA_UPLOAD_MAX_MEMORY_SIZE = env.int("BODY_MAX_BYTES", default=256 * 1024)
# Bytes of a request's header names and values: what proxies take in all (nginx: four buffers of 8 KiB). Beyond about 400 KB
# granian itself answers 431, with no body: where that matters, the proxy in front has a lower limit and a body for it.
HEADERS_MAX_BYTES = env.int("HEADERS_MAX_BYTES", default=32 * 1024)
# Where problem types resolve; empty: the address that the client used.
PUBLIC_BASE_URL = env.str("PUBLIC_BASE_URL", default="").rstrip("/")

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.authentication.IsTenant"],
    "DEFAULT_THROTTLE_CLASSES": ["api.rate_limit.TenantRateLimit"],
    "DEFAULT_PARSER_CLASSES": ["idempotency.parsers.ExactJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["api.renderers.OrjsonRenderer"],
    "DEFAULT_SCHEMA_CLASS": "config.openapi.generator.TableSchema",
    "EXCEPTION_HANDLER": "api.problems.handle_exception",
    # What is wrong with a body as a whole stands under a name that no member and no parameter can have: a lone surrogate.
    "NON_FIELD_ERRORS_KEY": "\ud800",
    "UNAUTHENTICATED_USER": None,
    "UNAUTHENTICATED_TOKEN": None,
    "URL_FORMAT_OVERRIDE": None,
    "FORMAT_SUFFIX_KWARG": None,
}

# What /schema says of the whole; of each endpoint: config/openapi/endpoints/.
SPECTACULAR_SETTINGS = {
    "OAS_VERSION": "3.1.1",
    "TITLE": "Semel",
    "VERSION": "1",
    "DESCRIPTION": "Start slow work over HTTP so that it takes effect once. What to retry, and with which key: docs/clients.md.",
    "LICENSE": {"name": "MIT", "identifier": "MIT"},
    "SERVERS": [{"url": PUBLIC_BASE_URL or "/"}],
    "SCHEMA_PATH_PREFIX": "",
    "ENFORCE_NON_BLANK_FIELDS": True,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "DEFAULT_GENERATOR_CLASS": "config.openapi.generator.Generator",
}

# Requests per second and tenant, and how many at once beyond that. 0: no limit, since one tenant's honest load is unknown.
RATE_LIMIT_PER_SECOND = env.int("RATE_LIMIT_PER_SECOND", default=0)
RATE_LIMIT_BURST = env.int("RATE_LIMIT_BURST", default=100)

# --- Idempotency -------------------------------------------------------------------------------------------------------

IDEMPOTENCY_SCOPE = "accounts.authentication.scope_of"  # whose key a request's is: its tenant's, in its mode
# "lenient": a key as the draft writes it, or bare as most clients send it; "strict": the quoted form only.
IDEMPOTENCY_KEY_SYNTAX = env.str("IDEMPOTENCY_KEY_SYNTAX", default="lenient")
# What another request under a used key is answered: 409, since it conflicts with the first; 422 follows the IETF draft.
IDEMPOTENCY_MISMATCH_STATUS = env.int("IDEMPOTENCY_MISMATCH_STATUS", default=409)
# Seconds that a key is remembered: longer than any client's retry schedule that we know of (Stripe keeps 24 h as well).
IDEMPOTENCY_TTL_SECONDS = env.int("IDEMPOTENCY_TTL_SECONDS", default=24 * 3600)
# Seconds after which the replays that a process has counted are written: nobody looks at them more often.
IDEMPOTENCY_REPLAY_FLUSH_SECONDS = env.float("IDEMPOTENCY_REPLAY_FLUSH_SECONDS", default=5.0)
# Bytes of an answer that are stored; a larger one keeps status and headers, and its work is done once all the same.
IDEMPOTENCY_STORED_RESPONSE_MAX_BYTES = env.int("IDEMPOTENCY_STORED_RESPONSE_MAX_BYTES", default=1024 * 1024)
# Seconds that a duplicate waits for the first request in all; the first needs milliseconds, a stalled disk a second.
IDEMPOTENCY_WAIT_SECONDS = env.float("IDEMPOTENCY_WAIT_SECONDS", default=2.0)
# Threads of one api process, as its server was started with: each waits for PostgreSQL most of the time, and has a connection.
API_THREADS = env.int("API_THREADS", default=8)
# How many duplicates of one process may wait at once: a quarter of its threads, so that duplicates cannot starve first requests.
IDEMPOTENCY_WAITING_DUPLICATES = max(1, API_THREADS // 4)
# Secrets of the fingerprints, "kid:secret", the newest first; old ones stay until the last record made under them is purged.
IDEMPOTENCY_FINGERPRINT_KEYS = env.list("IDEMPOTENCY_FINGERPRINT_KEYS")
# Seconds that a consumed message is remembered: longer than any provider that we know of delivers one again (Stripe: three days).
INBOX_RETENTION_SECONDS = env.int("INBOX_RETENTION_SECONDS", default=30 * 24 * 3600)

# --- Admin -------------------------------------------------------------------------------------------------------------

# Seconds that one statement of a mere look may take: a person waits no longer, and the service should not pay for it.
ADMIN_STATEMENT_SECONDS = env.float("ADMIN_STATEMENT_SECONDS", default=3.0)
# Members of params, results and errors whose values are never shown: each whose name holds one of these, in any case.
# Rather one too many: who must see a value reads it through the API, with a key of the tenant.
ADMIN_MASKED_NAMES = env.list(
    "ADMIN_MASKED_NAMES",
    default=[
        *(
            "source",
            "token",
            "secret",
            "password",
            "passwd",
            "pwd",
            "passphrase",
            "credential",
            "authorization",
        ),
        *("api_key", "apikey", "api-key", "private_key", "privatekey", "cookie", "signature", "dsn"),
        *("card", "cvc", "cvv", "pan_", "iban", "account_number", "routing_number", "ssn", "tax_id"),
    ],
)

# Who may send events to /v1/inbox/{source}, "source:whsec_…"; the same source twice while its secret is rotated.
INBOX_SECRETS = env.list("INBOX_SECRETS", default=[])
# Who acts upon them, "source:function", of each source that has a secret.
INBOX_HANDLERS = env.list("INBOX_HANDLERS", default=["sandbox:operations.payments.events.handle_event"])

# --- Redis: a hint -----------------------------------------------------------------------------------------------------

# Broker, wake-ups and rate limits: "redis://:password@host:port/0". What is in it may be lost at any time.
REDIS_URL = env.str("REDIS_URL")
# Failures in a row after which nothing is sent for a while: the sweeper covers, and no client waits for a dead broker.
BREAKER_FAILURES = 3
BREAKER_OPEN_SECONDS = 5.0
# Seconds that one client may lose to the broker in all, connecting included.
PUBLISH_CONNECT_SECONDS = 0.5
PUBLISH_BUDGET_SECONDS = env.float("PUBLISH_BUDGET_SECONDS", default=1.0)

# --- Jobs --------------------------------------------------------------------------------------------------------------

# What clients may ask for, by the path of its class: nothing that is not named here, whatever is installed.
OPERATIONS = env.list(
    "OPERATIONS",
    default=[
        "operations.payments.charge.ChargePayment",
        "operations.databases.drop.DropDatabase",
        "operations.reports.generate.GenerateReport",
        "operations.databases.provision.ProvisionDatabase",
        "operations.payments.refund.RefundPayment",
        "operations.sleep.Sleep",
    ],
)
# Three missed heartbeats: outlives one garbage collection and one failover, still frees a crashed worker's job within a minute.
LEASE_SECONDS = env.float("LEASE_SECONDS", default=45.0)
# A third of the lease: two renewals may fail before the third decides.
HEARTBEAT_SECONDS = env.float("HEARTBEAT_SECONDS", default=15.0)
# Added to an operation's own limit before its lease can no longer be renewed, so that its last words can still be written.
ATTEMPT_MARGIN_SECONDS = env.float("ATTEMPT_MARGIN_SECONDS", default=30.0)
# How long an operation may go on without its lease before its process is ended: a check comes sooner in any loop.
SELF_END_SECONDS = env.float("SELF_END_SECONDS", default=10.0)
# How often due and expired jobs are looked for: what a lost message costs in latency. A sweep that has not dealt with all of
# them by then leaves the rest to the next, which is due.
SWEEP_SECONDS = env.float("SWEEP_SECONDS", default=5.0)
# How long the first publication may take before the sweeper publishes again.
PUBLISH_GRACE_SECONDS = env.float("PUBLISH_GRACE_SECONDS", default=5.0)
# The longest pause between two publications of one job that nobody claims.
PUBLISH_BACKOFF_MAX_SECONDS = 60.0
# Messages of a queue from which on the sweeper adds none, and the api none from half of that on: more than a large fleet runs
# until the next sweep, and about 4 MB of the broker's memory where no worker runs at all. The jobs themselves wait in PostgreSQL.
PUBLISH_QUEUE_CAP = env.int("PUBLISH_QUEUE_CAP", default=5_000)
# Full jitter between 0 and base x 2^n seconds, capped: a downstream's outage of five minutes costs one more attempt, not ten.
BACKOFF_BASE_SECONDS = env.float("BACKOFF_BASE_SECONDS", default=2.0)
BACKOFF_MAX_SECONDS = env.float("BACKOFF_MAX_SECONDS", default=300.0)
# Seconds between purges, and rows that one transaction of sweep or purge touches: short locks, quick replicas.
PURGE_SECONDS = env.float("PURGE_SECONDS", default=60.0)
BATCH_ROWS = 500
# Seconds that one purge may take: the sweep waits for it, as both are the maintenance worker's.
PURGE_BUDGET_SECONDS = env.float("PURGE_BUDGET_SECONDS", default=10.0)
# Seconds that an ended job is kept: a month to look it up in, and as long as the longest-lived key that can stand for it.
JOB_RETENTION_SECONDS = env.int("JOB_RETENTION_SECONDS", default=30 * 24 * 3600)
# Seconds between slices of an operator's act on many jobs, and that a slice may take: the sweep waits for it.
BULK_SECONDS = env.float("BULK_SECONDS", default=5.0)
BULK_BUDGET_SECONDS = env.float("BULK_BUDGET_SECONDS", default=2.0)
# Seconds that the audit log of operators is kept: two years, as auditors ask. The database keeps each entry for 90 days at least.
AUDIT_RETENTION_SECONDS = env.int("AUDIT_RETENTION_SECONDS", default=730 * 24 * 3600)
# Seconds that a due job may wait before operators are shown it as stuck: a worker starts in less.
OVERDUE_JOB_SECONDS = env.int("OVERDUE_JOB_SECONDS", default=300)
# Seconds between self-audits: somebody is to know within minutes, not days. One that is late costs nothing.
SELFAUDIT_SECONDS = env.float("SELFAUDIT_SECONDS", default=300.0)
# Seconds that one self-audit may take: the sweep waits for it, as for a purge.
SELFAUDIT_BUDGET_SECONDS = env.float("SELFAUDIT_BUDGET_SECONDS", default=5.0)
# Seconds back that it looks: what was accepted or has ended since then is seen by a dozen audits, should one be missed.
SELFAUDIT_WINDOW_SECONDS = env.int("SELFAUDIT_WINDOW_SECONDS", default=3_600)
# Seconds that a purge may be behind before that is a violation: sixty purges, far more than an hour's maintenance needs.
SELFAUDIT_LAG_SECONDS = env.int("SELFAUDIT_LAG_SECONDS", default=3_600)
# Jobs of one tenant and mode that may wait at once; 0: no limit, since a backlog is what a queue is for.
QUEUED_JOBS_MAX = env.int("QUEUED_JOBS_MAX", default=0)
# Seconds that a job's run_at may lie ahead: as long as jobs are kept after their end; what is planned for longer belongs in a
# calendar that can be changed.
RUN_AT_MAX_SECONDS = env.int("RUN_AT_MAX_SECONDS", default=30 * 24 * 3600)
# Bytes of a job's result: an answer, not a file.
RESULT_MAX_BYTES = env.int("RESULT_MAX_BYTES", default=256 * 1024)

# Seconds between two looks of one process at how long jobs take of late, for `Retry-After`: one cheap statement, and none where
# nobody asks; soon enough for whoever polls a job that takes long.
DURATIONS_REFRESH_SECONDS = env.float("DURATIONS_REFRESH_SECONDS", default=5.0)

# --- Artifacts ---------------------------------------------------------------------------------------------------------

# The folder of the files that jobs make: one and the same for api, streams, worker and maintenance.
ARTIFACTS_ROOT = env.str("ARTIFACTS_ROOT", default=str(BASE_DIR / "artifacts"))
# Another storage in its place: the class of a Django storage, and its options as JSON. It must read parts of a file without
# having the whole in memory, and `save` must return only when the file is safe. S3-compatible, with requirements-s3.txt:
# ARTIFACTS_STORAGE=jobs.artifact_bucket.ArtifactBucket ARTIFACTS_STORAGE_OPTIONS={"bucket_name": "semel"}; other options, such as
# "endpoint_url", "region_name", "access_key" and "secret_key", are those of django-storages' S3Storage.
ARTIFACTS_STORAGE = env.str("ARTIFACTS_STORAGE", default="")
STORAGES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "artifacts": {
        "BACKEND": ARTIFACTS_STORAGE,
        "OPTIONS": env.json("ARTIFACTS_STORAGE_OPTIONS", default={}),
    }
    if ARTIFACTS_STORAGE
    else {
        "BACKEND": "jobs.artifact_storage.ArtifactFolder",
        # Whoever may read them asks the api.
        "OPTIONS": {
            "location": ARTIFACTS_ROOT,
            "file_permissions_mode": 0o600,
            "directory_permissions_mode": 0o700,
        },
    },
}
# Artifacts of one job: its document lists them all.
ARTIFACTS_MAX = env.int("ARTIFACTS_MAX", default=100)
# Seconds after which a file that was never published is removed: longer than any attempt lives, so that nobody still writes it.
ORPHAN_FILE_TTL_SECONDS = env.int("ORPHAN_FILE_TTL_SECONDS", default=24 * 3600)
# Files that one process may be sending at once: half of its threads, so that slow readers cannot starve other requests.
DOWNLOADS_MAX = env.int("DOWNLOADS_MAX", default=max(1, API_THREADS // 2))

# --- Waiting (the streams process) ----------------------------------------------------------------------------------------

# Where clients reach the streams process: a job's links `wait` and `events` begin with it. Empty: they are relative, which is
# right where one address serves both processes; on the api itself a wait is answered at once.
STREAMS_URL = env.str("STREAMS_URL", default="").rstrip("/")
# How often all watched jobs are looked at together: what a lost wake-up costs a waiter, and no longer than a poller would wait.
STREAMS_TICK_SECONDS = env.float("STREAMS_TICK_SECONDS", default=1.0)
# How often the credentials of open requests are checked again, all in one statement: how long a revoked key may still listen.
STREAMS_RECHECK_SECONDS = env.float("STREAMS_RECHECK_SECONDS", default=5.0)
# A comment on a stream that is quiet: sooner than proxies cut what they take for dead (30 to 60 s).
STREAMS_COMMENT_SECONDS = env.float("STREAMS_COMMENT_SECONDS", default=15.0)
# How long a client may take to take what it is sent before its connection is cut: a mobile network's worst pause.
STREAMS_SEND_SECONDS = env.float("STREAMS_SEND_SECONDS", default=20.0)
# Requests that may wait in one process; each costs some 20 KB and a file descriptor. Beyond it they are refused with 503.
STREAMS_MAX_WAITS = env.int("STREAMS_MAX_WAITS", default=10_000)
# Threads (and database connections) that let requests in: one look at credential and job each, after which no thread is held.
STREAMS_THREADS = env.int("STREAMS_THREADS", default=4)

# --- Celery ------------------------------------------------------------------------------------------------------------

# Seconds after which an attempt is asked to stop (soft), then killed (hard), then delivered again (visibility).
TASK_TIME_LIMIT_SECONDS = env.int("TASK_TIME_LIMIT_SECONDS", default=3_900)
# Seconds after which a sweep or a purge that hangs is killed, for the next tick to go on: both keep to budgets of seconds, and
# within them to a statement's time-out.
MAINTENANCE_TIME_LIMIT_SECONDS = env.int("MAINTENANCE_TIME_LIMIT_SECONDS", default=120)
CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_TIME_LIMIT = TASK_TIME_LIMIT_SECONDS
CELERY_TASK_SOFT_TIME_LIMIT = TASK_TIME_LIMIT_SECONDS - 30
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": TASK_TIME_LIMIT_SECONDS + 120,
    # A silently cut connection is noticed: a PING every ten seconds (celery#8030), whose answer must come, as any other, in five.
    # Longer than the one second for which a worker's BRPOP waits at the server.
    "health_check_interval": 10,
    "socket_timeout": 5.0,
    "socket_connect_timeout": 5.0,
    "socket_keepalive": True,
    # High before default before low; round robin, kombu's default, would make them equal.
    "queue_order_strategy": "workers.queue_order:PriorityOrder",
    # An acknowledgement that ran into a dead connection is sent once more over a new one; it may be repeated.
    "retry_on_timeout": True,
}
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_CREATE_MISSING_QUEUES = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_ACKS_LATE = True
# A task that kills its worker must not come back by the broker for ever: recovery is the lease's.
CELERY_TASK_REJECT_ON_WORKER_LOST = False
CELERY_TASK_RETRY_ON_WORKER_LOST = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_MAX_TASKS_PER_CHILD = 1_000
# Seconds that attempts have to end or to give their jobs back: ten less than the grace of a container's stop, and enough for a
# call that has just begun. One that is cut off is repeated or asked about; where it can be neither, a person is needed.
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = env.float("WORKER_SOFT_SHUTDOWN_SECONDS", default=35.0)
# It would let an idle worker wait those seconds for nothing: there are no delayed tasks to give back, and messages are hints.
CELERY_WORKER_ENABLE_SOFT_SHUTDOWN_ON_IDLE = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
# A broker that is full, or just became a replica, answers with an error: a reason to connect anew, not to end.
CELERY_BROKER_CHANNEL_ERROR_RETRY = True
CELERY_DB_REUSE_MAX = 1_000
CELERY_TIMEZONE = "UTC"
# Ticks go to a worker of their own. Those that nobody took for a minute are worth nothing; not sooner, since the clock that sets
# the end and the one that checks it may stand on two hosts.
_TICK = {"queue": "maintenance", "expires": 60}
CELERY_BEAT_SCHEDULER = "config.beat.Scheduler"
# Seconds between beat's looks at its schedule at most: each leaves a sign of life (observability/liveness.py).
CELERY_BEAT_MAX_LOOP_INTERVAL = 10
CELERY_BEAT_SCHEDULE = {
    "sweep": {"task": "workers.sweep", "schedule": SWEEP_SECONDS, "options": _TICK},
    "bulk": {"task": "operators.bulk", "schedule": BULK_SECONDS, "options": _TICK},
    "purge": {"task": "workers.purge", "schedule": PURGE_SECONDS, "options": _TICK},
    "selfaudit": {"task": "workers.selfaudit", "schedule": SELFAUDIT_SECONDS, "options": _TICK},
}

# --- Effects -----------------------------------------------------------------------------------------------------------

# Seconds of the lease that must be left beyond an effect's time-out when it is sent: clocks, pauses, the way to the socket.
EFFECT_MARGIN_SECONDS = 2.0
# Seconds that recording its start may take: a lease that is no longer than all three would never let an effect be sent.
EFFECT_BEGIN_SECONDS = 1.0
# Seconds that a downstream call may take in all unless an effect says otherwise: shorter than a lease, so that one outlasts it.
EFFECT_TIMEOUT_SECONDS = env.float("EFFECT_TIMEOUT_SECONDS", default=30.0)
# Seconds after that time-out in which a cut request may still land at the downstream.
EFFECT_RECONCILE_AFTER_SECONDS = env.float("EFFECT_RECONCILE_AFTER_SECONDS", default=60.0)
# Seconds before the end of a downstream's key window in which a call is no longer repeated: its clock is not ours.
KEY_WINDOW_MARGIN_SECONDS = 60.0

# --- Tests -------------------------------------------------------------------------------------------------------------

# Where this process is to die, for the tests of what happens then: <name>:<n>:kill|stop|raise|hang (foundation/fault_points.py).
CRASHPOINT = env.str("CRASHPOINT", default="")

# --- Logging -----------------------------------------------------------------------------------------------------------

# Which of our own lines are written; those of libraries from WARNING on.
LOG_LEVEL = env.str("LOG_LEVEL", default="INFO").upper()
# "json": one object a line, for machines; "console": for people.
LOG_FORMAT = env.choice("LOG_FORMAT", ("json", "console"), default="console" if DEBUG else "json")
# What each line says of where it comes from.
PROCESS_KIND = kind_of_process(sys.argv)
LOGGING_CONFIG = "observability.logs.configure_logging"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "observability.logs.line_formatter"}},
    "handlers": {
        "line": {
            "class": "observability.stderr_handler.LineHandler",
            "formatter": "line",
            # A command's is the terminal's, or whatever its caller makes of it.
            "own_pipe": PROCESS is not Process.MANAGE,
        }
    },
    "root": {"handlers": ["line"], "level": "WARNING"},
    "loggers": {name: {"level": LOG_LEVEL} for name in ROOMS}
    # What servers and libraries set up for themselves is taken back: their lines go the way of all others.
    | {
        name: {"level": level, "handlers": [], "propagate": True}
        for name, level in {
            "_granian": "INFO",
            "uvicorn": "INFO",
            "uvicorn.error": "INFO",
            "uvicorn.access": "WARNING",  # our own line of each request says more, and no query
            "celery": "INFO",
            # Each delivery and its end: our own lines of the job say both, with its ids.
            "celery.worker.strategy": "WARNING",
            "celery.app.trace": "WARNING",
            "celery.beat": "WARNING",
            "django": "WARNING",
            "django.request": "ERROR",
            "django.server": "INFO",
            "django.security.DisallowedHost": "CRITICAL",
        }.items()
    },
}

# --- Tracing -----------------------------------------------------------------------------------------------------------

# OpenTelemetry's own variables say where spans go. Without an endpoint, or with "none", nothing is traced, nor loaded.
TRACING = (
    bool(
        env.str("OTEL_EXPORTER_OTLP_ENDPOINT", default="")
        or env.str("OTEL_TRACES_EXPORTER", default="") == "otlp"
    )
    and env.str("OTEL_TRACES_EXPORTER", default="otlp") != "none"
    and PROCESS is not Process.MANAGE
)
OTEL_SERVICE_NAME = env.str("OTEL_SERVICE_NAME", default="")
# How many traces in one; each is whole.
OTEL_SAMPLE_RATIO = env.float("OTEL_TRACES_SAMPLER_ARG", default=1.0)
if TRACING:
    if find_spec("opentelemetry.sdk") is None:
        raise ImproperlyConfigured(
            "Tracing is asked for (OTEL_…): pip install -r requirements-otel.txt, or unset it."
        )
    MIDDLEWARE.insert(2, "observability.tracing.TracingMiddleware")

# --- Figures -----------------------------------------------------------------------------------------------------------

# What a scraper of /metrics must send as its bearer token. Empty: there is no /metrics; figures are not for the public.
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")
# A folder that all processes of a host share for their figures: any of them then answers for all. Empty: each process knows its
# own alone, which is right only where there is one. It may be lost at any time (a tmpfs will do): figures begin at 0 again. Each
# process needs less than half a megabyte; what dies leaves its files to its successor.
PROMETHEUS_MULTIPROC_DIR = env.str("PROMETHEUS_MULTIPROC_DIR", default="")
# Milliseconds that one question to the database for /metrics may take: a scrape has ten seconds, and asks a dozen of them.
METRICS_STATEMENT_TIMEOUT_MS = env.int("METRICS_STATEMENT_TIMEOUT_MS", default=1_000)

# --- Gateways ----------------------------------------------------------------------------------------------------------

# Where charges and refunds are made, and our key there. Without them nothing is sent, and such jobs fail after their attempts.
PAYMENT_PROVIDER_URL = env.str("PAYMENT_PROVIDER_URL", default="")
PAYMENT_PROVIDER_KEY = env.str("PAYMENT_PROVIDER_KEY", default="")
# Seconds that a call to it may take in all: card networks answer within seconds; what takes longer is better repeated.
PAYMENT_PROVIDER_TIMEOUT_SECONDS = env.float("PAYMENT_PROVIDER_TIMEOUT_SECONDS", default=10.0)

# A database on the server where databases are provisioned, as a role with CREATEDB and CREATEROLE (docs/provisioning.md), not
# through PgBouncer. Empty: those operations are tried again until it is set.
PROVISION_DATABASE_URL = env.str("PROVISION_DATABASE_URL", default="")
# Where clients reach that server, host:port, if not where the workers do.
PROVISION_PUBLIC_ADDRESS = env.str("PROVISION_PUBLIC_ADDRESS", default="")
# Seconds that a change there may take in all: to copy a template takes less than one, and to wait for others to leave it five.
PROVISION_TIMEOUT_SECONDS = env.float("PROVISION_TIMEOUT_SECONDS", default=15.0)
# Sessions that a provisioned role may have at once: a small pool or two, of a server's usual hundred.
PROVISION_CONNECTION_LIMIT = env.int("PROVISION_CONNECTION_LIMIT", default=10)
