"""Relations between settings, as system checks: `manage.py check --deploy` proves a deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as CheckWarning
from django.core.exceptions import ImproperlyConfigured

from api.inbox_sources import find_source
from jobs.checks import check_operations
from jobs.registry import operations
from operations.payments.provider import CALL_SLACK

if TYPE_CHECKING:
    from collections.abc import Iterator


_POSITIVE = (
    "API_THREADS",
    "ARTIFACTS_MAX",
    "ATTEMPT_MARGIN_SECONDS",
    "BACKOFF_BASE_SECONDS",
    "BACKOFF_MAX_SECONDS",
    "DATA_UPLOAD_MAX_MEMORY_SIZE",
    "BULK_BUDGET_SECONDS",
    "BULK_SECONDS",
    "DOWNLOADS_MAX",
    "EFFECT_TIMEOUT_SECONDS",
    "EFFECT_RECONCILE_AFTER_SECONDS",
    "HEARTBEAT_SECONDS",
    "INBOX_RETENTION_SECONDS",
    "JOB_RETENTION_SECONDS",
    "LEASE_SECONDS",
    "MAINTENANCE_TIME_LIMIT_SECONDS",
    "OVERDUE_JOB_SECONDS",
    "PAYMENT_PROVIDER_TIMEOUT_SECONDS",
    "PROVISION_CONNECTION_LIMIT",
    "PROVISION_TIMEOUT_SECONDS",
    "PUBLISH_BUDGET_SECONDS",
    "PUBLISH_GRACE_SECONDS",
    "PUBLISH_QUEUE_CAP",
    "PURGE_BUDGET_SECONDS",
    "PURGE_SECONDS",
    "RESULT_MAX_BYTES",
    "RUN_AT_MAX_SECONDS",
    "SELFAUDIT_BUDGET_SECONDS",
    "SELFAUDIT_LAG_SECONDS",
    "SELFAUDIT_SECONDS",
    "SELFAUDIT_WINDOW_SECONDS",
    "SELF_END_SECONDS",
    "STREAMS_COMMENT_SECONDS",
    "STREAMS_MAX_WAITS",
    "STREAMS_RECHECK_SECONDS",
    "STREAMS_SEND_SECONDS",
    "STREAMS_THREADS",
    "STREAMS_TICK_SECONDS",
    "SWEEP_SECONDS",
    "TASK_TIME_LIMIT_SECONDS",
)
# As the trigger of accounts/migrations/0001_initial.py has it.
_AUDIT_KEPT_SECONDS = 90 * 24 * 3600

# Characters from which on nobody tries.
_TOKEN_LENGTH = 20


@register(Tags.security, deploy=True)
def check_crashpoint(**_options: Any) -> list[CheckMessage]:  # noqa: ANN401 - Django's signature
    """No process of a deployment is told to die."""
    if not settings.CRASHPOINT:
        return []
    hint = "It is for tests: remove it from the environment."
    return [Error(f"CRASHPOINT is set ({settings.CRASHPOINT}).", hint=hint, id="semel.E007")]


@register(Tags.security, deploy=True)
def check_metrics(**_options: Any) -> list[CheckMessage]:  # noqa: ANN401 - Django's signature
    """Whoever may read the figures reads those of all processes, with a token that cannot be guessed."""
    if not settings.METRICS_TOKEN:
        return []
    found: list[CheckMessage] = []
    if len(settings.METRICS_TOKEN) < _TOKEN_LENGTH:
        hint = "python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
        found.append(CheckWarning("METRICS_TOKEN can be guessed.", hint=hint, id="semel.W002"))
    if not settings.PROMETHEUS_MULTIPROC_DIR:
        hint = "Each process would tell of itself alone: name a folder that all of this host's share."
        message = "METRICS_TOKEN is set and PROMETHEUS_MULTIPROC_DIR is not."
        found.append(CheckWarning(message, hint=hint, id="semel.W003"))
    return found


@register
def check_times(**_options: Any) -> list[CheckMessage]:  # noqa: ANN401 - Django's signature
    """Every pair of durations that must stand in a relation does."""
    return [*_wrong_relations(), *_wrong_retentions()]


def _wrong_relations() -> Iterator[CheckMessage]:
    for name in _POSITIVE:
        if getattr(settings, name) <= 0:
            yield Error(f"{name} ({getattr(settings, name)}) must be more than 0.", id="semel.E005")
    provider = settings.PAYMENT_PROVIDER_TIMEOUT_SECONDS + CALL_SLACK.total_seconds()
    around = settings.EFFECT_MARGIN_SECONDS + settings.EFFECT_BEGIN_SECONDS
    if provider + around > settings.LEASE_SECONDS:
        yield Error(
            f"LEASE_SECONDS ({settings.LEASE_SECONDS}) does not outlast PAYMENT_PROVIDER_TIMEOUT_SECONDS.",
            hint=f"A charge is only sent if its lease outlasts it, by {CALL_SLACK} and the effects' margin.",
            id="semel.E006",
        )
    if settings.PROVISION_TIMEOUT_SECONDS + CALL_SLACK.total_seconds() + around > settings.LEASE_SECONDS:
        yield Error(
            f"LEASE_SECONDS ({settings.LEASE_SECONDS}) does not outlast PROVISION_TIMEOUT_SECONDS.",
            hint=f"A statement is only sent if its lease outlasts it, by {CALL_SLACK} and the effects' margin.",
            id="semel.E012",
        )
    limit = settings.TASK_TIME_LIMIT_SECONDS
    if settings.HEARTBEAT_SECONDS * 3 > settings.LEASE_SECONDS:
        yield Error(
            f"HEARTBEAT_SECONDS ({settings.HEARTBEAT_SECONDS}) is more than a third of LEASE_SECONDS ({settings.LEASE_SECONDS}).",
            hint="Two renewals must be able to fail before the third decides.",
            id="semel.E001",
        )
    if settings.EFFECT_TIMEOUT_SECONDS + around > settings.LEASE_SECONDS:
        yield Error(
            f"LEASE_SECONDS ({settings.LEASE_SECONDS}) does not outlast EFFECT_TIMEOUT_SECONDS.",
            hint="An effect is only sent if its lease outlasts it.",
            id="semel.E002",
        )
    if settings.EFFECT_TIMEOUT_SECONDS + around > settings.CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT:
        told = settings.CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT
        yield Error(
            f"WORKER_SOFT_SHUTDOWN_SECONDS ({told}) is not enough for EFFECT_TIMEOUT_SECONDS.",
            hint="Each restart would cut off calls. A container's stop needs ten seconds more than that.",
            id="semel.E013",
        )
    if settings.CELERY_BROKER_TRANSPORT_OPTIONS["visibility_timeout"] <= limit:
        yield Error(
            "The broker's visibility timeout is not longer than TASK_TIME_LIMIT_SECONDS.",
            hint="Every long job would be delivered again while it runs.",
            id="semel.E003",
        )
    yield from _wrong_limits(limit)


def _wrong_limits(limit: int) -> Iterator[CheckMessage]:
    """What an attempt's hard limit must be shorter than, or longer."""
    if limit >= settings.ORPHAN_FILE_TTL_SECONDS:
        yield Error(
            f"ORPHAN_FILE_TTL_SECONDS ({settings.ORPHAN_FILE_TTL_SECONDS}) is not longer than TASK_TIME_LIMIT_SECONDS.",
            hint="An attempt might store a file after the purge has forgotten that it may be there.",
            id="semel.E010",
        )
    # What is wrong with an operation in itself is told by jobs/checks.py.
    for operation in () if check_operations() else operations().values():
        if operation.timeout_seconds + settings.ATTEMPT_MARGIN_SECONDS > settings.CELERY_TASK_SOFT_TIME_LIMIT:
            yield Error(
                f"{operation.name} may run for {operation.timeout_seconds} s, longer than Celery's soft time limit.",
                hint="Raise TASK_TIME_LIMIT_SECONDS.",
                id="semel.E004",
            )


@register()
def check_inbox(**_options: object) -> list[CheckMessage]:
    """Each source of events has a handler, and secrets that can be one."""
    try:
        find_source("")
    except (ImproperlyConfigured, ImportError) as error:
        return [Error(str(error), hint="See INBOX_SECRETS in .env.example.", id="semel.E009")]
    return []


def _wrong_retentions() -> Iterator[CheckMessage]:
    if settings.JOB_RETENTION_SECONDS < settings.IDEMPOTENCY_TTL_SECONDS:
        yield CheckWarning(
            f"JOB_RETENTION_SECONDS ({settings.JOB_RETENTION_SECONDS}) is shorter than IDEMPOTENCY_TTL_SECONDS.",
            hint="A job is kept as long as its key: until then every purge would look at it in vain.",
            id="semel.W001",
        )
    if settings.AUDIT_RETENTION_SECONDS <= _AUDIT_KEPT_SECONDS:
        yield Error(
            f"AUDIT_RETENTION_SECONDS ({settings.AUDIT_RETENTION_SECONDS}) is not more than 90 days.",
            hint="The database refuses to delete younger entries of the audit log.",
            id="semel.E008",
        )
