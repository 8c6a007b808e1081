"""Relations between settings, as system checks: `manage.py check --deploy` proves a deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from jobs.registry import operations
from workers.lease import ATTEMPT_MARGIN

if TYPE_CHECKING:
    from collections.abc import Iterator


@register
def check_times(**_options: Any) -> list[CheckMessage]:  # noqa: ANN401 - Django's signature
    """Every pair of durations that must stand in a relation does."""
    return list(_wrong_relations())


def _wrong_relations() -> Iterator[CheckMessage]:
    limit = settings.TASK_TIME_LIMIT_SECONDS
    if settings.HEARTBEAT_SECONDS * 3 > settings.LEASE_SECONDS:
        yield Error(
            f"HEARTBEAT_SECONDS ({settings.HEARTBEAT_SECONDS}) is more than a third of LEASE_SECONDS ({settings.LEASE_SECONDS}).",
            hint="Two renewals must be able to fail before the third decides.",
            id="semel.E001",
        )
    if settings.EFFECT_TIMEOUT_SECONDS + settings.EFFECT_MARGIN_SECONDS > settings.LEASE_SECONDS:
        yield Error(
            f"LEASE_SECONDS ({settings.LEASE_SECONDS}) does not outlast EFFECT_TIMEOUT_SECONDS.",
            hint="An effect is only sent if its lease outlasts it.",
            id="semel.E002",
        )
    if settings.CELERY_BROKER_TRANSPORT_OPTIONS["visibility_timeout"] <= limit:
        yield Error(
            "The broker's visibility timeout is not longer than TASK_TIME_LIMIT_SECONDS.",
            hint="Every long job would be delivered again while it runs.",
            id="semel.E003",
        )
    for operation in operations().values():
        if operation.timeout_seconds + ATTEMPT_MARGIN.total_seconds() > settings.CELERY_TASK_SOFT_TIME_LIMIT:
            yield Error(
                f"{operation.name} may run for {operation.timeout_seconds} s, longer than Celery's soft time limit.",
                hint="Raise TASK_TIME_LIMIT_SECONDS.",
                id="semel.E004",
            )
