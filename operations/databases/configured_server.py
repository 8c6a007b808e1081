"""What the operations on databases share: the server as configured, and the name by which a client knows its database."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.validators import RegexValidator
from rest_framework import serializers

from jobs.fields import StrictCharField
from operations.databases.server import NAME_MAX, PostgresServer
from operations.payments.provider import CALL_SLACK

if TYPE_CHECKING:
    from jobs.operations import JobHandle


class DatabaseParams(serializers.Serializer[dict[str, Any]]):
    """Which database."""

    name = StrictCharField(
        validators=[
            RegexValidator(
                rf"\A[a-z][a-z0-9_]{{0,{NAME_MAX - 1}}}\Z",
                f"A lower-case letter, then letters, digits and underscores; at most {NAME_MAX} in all.",
            )
        ],
        help_text="What you call it, such as orders. The database's own name has a prefix that stands for you.",
    )


def call_timeout() -> timedelta:
    """How long one call may take in all."""
    return _server_timeout() + CALL_SLACK


def server_for(job: JobHandle, name: str) -> PostgresServer:
    """The server as this tenant's job on that name sees it."""
    return PostgresServer(
        settings.PROVISION_DATABASE_URL, scope=job.scope, name=name, timeout=_server_timeout()
    )


def _server_timeout() -> timedelta:
    return timedelta(seconds=settings.PROVISION_TIMEOUT_SECONDS)
