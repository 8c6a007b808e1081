"""Relations between settings, as system checks: `manage.py check --deploy` proves a deployment."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as CheckWarning
from django.core.exceptions import ImproperlyConfigured

from api.inbox_sources import find_source
from jobs.checks import check_operations
from jobs.registry import operations
from operations import CALL_SLACK

_POSITIVE = (
    *("API_CONNECTIONS", "API_THREADS", "ARTIFACTS_MAX", "ATTEMPT_MARGIN_SECONDS", "BACKOFF_BASE_SECONDS"),
    *("BACKLOG_SECONDS", "BACKOFF_MAX_SECONDS", "HINTS_MAX"),
    *("BULK_BUDGET_SECONDS", "BULK_SECONDS", "DATA_UPLOAD_MAX_MEMORY_SIZE", "DOWNLOADS_MAX"),
    *("EFFECT_RECONCILE_AFTER_SECONDS", "EFFECT_TIMEOUT_SECONDS", "HEARTBEAT_SECONDS", "INBOX_RETENTION_SECONDS"),
    *("JOB_RETENTION_SECONDS", "LEASE_SECONDS", "LOST_LEASE_EXIT_SECONDS", "MAINTENANCE_TIME_LIMIT_SECONDS"),
    *("OVERDUE_JOB_SECONDS", "PAYMENT_PROVIDER_TIMEOUT_SECONDS", "PROVISION_CONNECTION_LIMIT"),
    *("PROVISION_TIMEOUT_SECONDS", "PUBLISH_BUDGET_SECONDS"),
    *("PURGE_BUDGET_SECONDS", "PURGE_SECONDS", "RESULT_MAX_BYTES", "RUN_AT_MAX_SECONDS"),
    *("SELFAUDIT_BUDGET_SECONDS", "SELFAUDIT_LAG_SECONDS", "SELFAUDIT_SECONDS", "SELFAUDIT_WINDOW_SECONDS"),
    *("SSE_KEEPALIVE_SECONDS", "STREAMS_MAX_WAITS", "STREAMS_POLL_SECONDS", "STREAMS_REAUTH_SECONDS"),
    *("STREAMS_SEND_TIMEOUT_SECONDS", "STREAMS_THREADS", "SWEEP_SECONDS", "TASK_TIME_LIMIT_SECONDS"),
)
# How long a revoked API key may still be accepted: what the documents promise.
_REVOKED_WITHIN_SECONDS = 5
# The audit log's trigger in accounts/migrations/0001_initial.py refuses to delete younger entries.
_AUDIT_KEPT_SECONDS = 90 * 24 * 3600
# A token of fewer characters can be guessed.
_TOKEN_LENGTH = 20


@register(Tags.security, deploy=True)
def check_fault_point(**_options: Any) -> list[CheckMessage]:  # noqa: ANN401 - Django's signature
    """Refuse a deployment in which a fault point is set."""
    if not settings.FAULT_POINT:
        return []
    hint = "It is for tests only. Remove it from the environment."
    return [Error(f"FAULT_POINT is set ({settings.FAULT_POINT}).", hint=hint, id="semel.E007")]


@register(Tags.security, deploy=True)
def check_metrics(**_options: Any) -> list[CheckMessage]:  # noqa: ANN401 - Django's signature
    """Warn of a weak metrics token, and of metrics that cover one process only."""
    if not settings.METRICS_TOKEN:
        return []
    messages: list[CheckMessage] = []
    if len(settings.METRICS_TOKEN) < _TOKEN_LENGTH:
        hint = "Generate one: python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
        messages.append(CheckWarning("METRICS_TOKEN is too short.", hint=hint, id="semel.W002"))
    if not settings.PROMETHEUS_MULTIPROC_DIR:
        hint = "Each process reports only itself. Set a folder that all processes of the host share."
        message = "METRICS_TOKEN is set, but PROMETHEUS_MULTIPROC_DIR is not."
        messages.append(CheckWarning(message, hint=hint, id="semel.W003"))
    return messages


@register()
def check_inbox(**_options: object) -> list[CheckMessage]:
    """Check that each source of events has a handler and valid secrets."""
    try:
        find_source("")
    except (ImproperlyConfigured, ImportError) as error:
        return [Error(str(error), hint="See INBOX_SECRETS in .env.example.", id="semel.E009")]
    return []


@register
def check_times(**_options: Any) -> list[CheckMessage]:  # noqa: ANN401 - Django's signature
    """Check each pair of durations of which one must be longer than the other."""
    return [*_not_positive(), *_lease_too_short(), *_task_limit_errors(), *_retention_errors()]


@register(Tags.security)
def check_credential_cache(**_options: Any) -> list[CheckMessage]:  # noqa: ANN401 - Django's signature
    """Refuse a cache under which a revoked API key is accepted for longer than promised."""
    seconds = settings.CREDENTIAL_CACHE_SECONDS
    if 0 <= seconds <= _REVOKED_WITHIN_SECONDS:
        return []
    message = f"CREDENTIAL_CACHE_SECONDS ({seconds}) must be 0 to {_REVOKED_WITHIN_SECONDS}."
    return [Error(message, hint="A revoked API key is accepted for that long.", id="semel.E014")]


def _not_positive() -> Iterator[CheckMessage]:
    for name in _POSITIVE:
        if getattr(settings, name) <= 0:
            yield Error(f"{name} ({getattr(settings, name)}) must be more than 0.", id="semel.E005")


def _lease_too_short() -> Iterator[CheckMessage]:
    """Yield errors for a lease or a worker's shutdown that is shorter than a downstream call."""
    lease = settings.LEASE_SECONDS
    around = settings.EFFECT_MARGIN_SECONDS + settings.EFFECT_BEGIN_SECONDS
    if lease < settings.HEARTBEAT_SECONDS * 3:
        yield Error(
            f"HEARTBEAT_SECONDS ({settings.HEARTBEAT_SECONDS}) is more than a third of LEASE_SECONDS ({lease}).",
            hint="Two renewals must be able to fail before the third decides.",
            id="semel.E001",
        )
    slack = CALL_SLACK.total_seconds()
    for name, extra, code in (
        ("EFFECT_TIMEOUT_SECONDS", 0.0, "semel.E002"),
        ("PAYMENT_PROVIDER_TIMEOUT_SECONDS", slack, "semel.E006"),
        ("PROVISION_TIMEOUT_SECONDS", slack, "semel.E012"),
    ):
        needed = getattr(settings, name) + extra + around
        if needed > lease:
            yield Error(
                f"LEASE_SECONDS ({lease}) is too short for {name} ({getattr(settings, name)}).",
                hint=f"A call is sent only if its lease outlasts it: the lease must be at least {needed:g} s.",
                id=code,
            )
    shutdown = settings.CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT
    if settings.EFFECT_TIMEOUT_SECONDS + around > shutdown:
        yield Error(
            f"WORKER_SOFT_SHUTDOWN_SECONDS ({shutdown}) is too short for EFFECT_TIMEOUT_SECONDS.",
            hint="Each restart would cut calls. A container's stop grace must be ten seconds longer still.",
            id="semel.E013",
        )


def _task_limit_errors() -> Iterator[CheckMessage]:
    """Yield errors for durations that contradict the hard time limit of a task."""
    limit = settings.TASK_TIME_LIMIT_SECONDS
    if settings.CELERY_BROKER_TRANSPORT_OPTIONS["visibility_timeout"] <= limit:
        yield Error(
            "The broker's visibility timeout is not longer than TASK_TIME_LIMIT_SECONDS.",
            hint="Every long job would be redelivered while it runs.",
            id="semel.E003",
        )
    if limit >= settings.ORPHAN_FILE_TTL_SECONDS:
        yield Error(
            f"ORPHAN_FILE_TTL_SECONDS ({settings.ORPHAN_FILE_TTL_SECONDS}) is not longer than TASK_TIME_LIMIT_SECONDS.",
            hint="An attempt could store a file after the purge has removed its entry.",
            id="semel.E010",
        )
    # jobs/checks.py reports an operation that is wrong in itself.
    for operation in () if check_operations() else operations().values():
        # A task may begin its last job when it has run for BACKLOG_SECONDS.
        longest = settings.BACKLOG_SECONDS + operation.timeout_seconds + settings.ATTEMPT_MARGIN_SECONDS
        if longest > settings.CELERY_TASK_SOFT_TIME_LIMIT:
            yield Error(
                f"{operation.name} may run for {operation.timeout_seconds} s, longer than Celery's soft time limit.",
                hint="Raise TASK_TIME_LIMIT_SECONDS.",
                id="semel.E004",
            )


def _retention_errors() -> Iterator[CheckMessage]:
    if settings.JOB_RETENTION_SECONDS < settings.IDEMPOTENCY_TTL_SECONDS:
        yield CheckWarning(
            f"JOB_RETENTION_SECONDS ({settings.JOB_RETENTION_SECONDS}) is shorter than IDEMPOTENCY_TTL_SECONDS.",
            hint="A job is kept as long as its key. Until then every purge would read it for nothing.",
            id="semel.W001",
        )
    if settings.AUDIT_RETENTION_SECONDS <= _AUDIT_KEPT_SECONDS:
        yield Error(
            f"AUDIT_RETENTION_SECONDS ({settings.AUDIT_RETENTION_SECONDS}) is not more than 90 days.",
            hint="The database refuses to delete younger entries of the audit log.",
            id="semel.E008",
        )
