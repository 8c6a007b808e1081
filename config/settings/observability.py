"""Logs, metrics and traces."""

from importlib.util import find_spec

from django.core.exceptions import ImproperlyConfigured

from config.env import PROCESS, env
from config.settings.web import DEBUG, MIDDLEWARE
from foundation.processes import Process

# --- Logging ---------------------------------------------------------------------------------------------------------

# Lowest level of our own log lines. Libraries log from WARNING.
LOG_LEVEL = env.str("LOG_LEVEL", default="INFO").upper()
# "json": one object per line, for machines. "console": for people.
LOG_FORMAT = env.choice("LOG_FORMAT", ("json", "console"), default="console" if DEBUG else "json")
LOGGING_CONFIG = "observability.logs.configure_logging"
# Our packages; each logs under its own name.
ROOMS = (
    *("accounts", "api", "broker", "config", "foundation", "idempotency", "jobs", "observability"),
    *("operations", "operators", "streams", "workers"),
)
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "observability.logs.line_formatter"}},
    "handlers": {
        "line": {
            "class": "observability.stderr_handler.StderrHandler",
            "formatter": "line",
            # A command writes to the standard error of its caller.
            "own_pipe": PROCESS is not Process.MANAGE,
        }
    },
    "root": {"handlers": ["line"], "level": "WARNING"},
    "loggers": {name: {"level": LOG_LEVEL} for name in ROOMS}
    # Remove the handlers that servers and libraries install: their lines use ours.
    | {
        name: {"level": level, "handlers": [], "propagate": True}
        for name, level in {
            "_granian": "INFO",
            "uvicorn": "INFO",
            "uvicorn.error": "INFO",
            "uvicorn.access": "WARNING",  # our own line of each request has more, and no query string
            "celery": "INFO",
            # Our own lines of a job report delivery and outcome, with its ids.
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

# --- Tracing ---------------------------------------------------------------------------------------------------------

# OpenTelemetry's own variables set where spans go. Without an endpoint, or with "none", nothing is traced.
TRACING = (
    bool(env.str("OTEL_EXPORTER_OTLP_ENDPOINT", default="") or env.str("OTEL_TRACES_EXPORTER", default="") == "otlp")
    and env.str("OTEL_TRACES_EXPORTER", default="otlp") != "none"
    and PROCESS is not Process.MANAGE
)
# Service name of the spans. Empty: "semel-" and the kind of process.
OTEL_SERVICE_NAME = env.str("OTEL_SERVICE_NAME", default="")
# Share of traces that are recorded, 0 to 1. A recorded trace is complete.
OTEL_SAMPLE_RATIO = env.float("OTEL_TRACES_SAMPLER_ARG", default=1.0)
if TRACING:
    if find_spec("opentelemetry.sdk") is None:
        raise ImproperlyConfigured(
            "The OTEL_… variables turn tracing on, but its packages are missing: "
            "pip install -r requirements-otel.txt, or unset the variables."
        )
    MIDDLEWARE.insert(2, "observability.tracing.TracingMiddleware")

# --- Metrics ---------------------------------------------------------------------------------------------------------

# Bearer token that a scraper of /metrics must send. Empty: there is no /metrics, because metrics are not public.
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")
# Folder in which all processes of a host keep their metrics; any of them then answers for all. Empty: each process reports only
# itself, which is right only for a single process. The folder may be lost at any time (a tmpfs is enough): counters then start at
# 0. Each process needs less than half a megabyte; a new process reuses the files of a dead one.
PROMETHEUS_MULTIPROC_DIR = env.str("PROMETHEUS_MULTIPROC_DIR", default="")
# Milliseconds that one statement of a scrape may take: a scrape has ten seconds and runs a dozen of them.
METRICS_STATEMENT_TIMEOUT_MS = env.int("METRICS_STATEMENT_TIMEOUT_MS", default=1_000)
