"""resources.provision_database: create a PostgreSQL database and a role that alone can connect to it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.conf import settings
from django.core.validators import RegexValidator
from rest_framework import serializers

from jobs.fields import StrictCharField
from jobs.operations import IDEMPOTENT_BY_NATURE, Compensation, Operation
from operations.databases.server import NAME_MAX, call_timeout, server_for

if TYPE_CHECKING:
    from jobs.operations import JobHandle

# Random bytes of a password: 256 bits cannot be guessed.
_PASSWORD_BYTES = 32


class DatabaseParams(serializers.Serializer[dict[str, Any]]):
    """Which database."""

    name = StrictCharField(
        validators=[
            RegexValidator(
                rf"\A[a-z][a-z0-9_]{{0,{NAME_MAX - 1}}}\Z",
                f"Start with a lower-case letter, then use letters, digits and underscores; at most {NAME_MAX} characters.",
            )
        ],
        help_text="Your name for the database, such as orders. The server's name for it has a prefix of your own.",
    )


class ProvisionResult(serializers.Serializer[dict[str, Any]]):
    """The database, and how to connect to it."""

    database = serializers.CharField()
    role = serializers.CharField()
    dsn = serializers.CharField(help_text="Contains the password, which is shown nowhere else.")


class ProvisionDatabase(Operation):
    """Provision a database and its role. If that fails permanently or is canceled, both are removed.

    There is no identity: a name is free again after its database was dropped. The server's catalog records which job created it;
    of two jobs for one name the first succeeds and the other is refused.
    """

    name = "resources.provision_database"
    params = DatabaseParams
    result = ProvisionResult
    timeout_seconds = 120

    def perform(self, params: dict[str, Any], job: JobHandle) -> dict[str, Any]:
        """Create role and database, allow connections, and return how to connect.

        The password is recorded before it is sent to the server, so that every attempt uses the same one. It is stored in that
        step and in the result, which are erased together, and in no effect's record.
        """
        server = server_for(job, params["name"])
        password = job.step("password", _new_password)["password"]
        create_role = partial(
            server.create_role, password=password, connection_limit=settings.PROVISION_CONNECTION_LIMIT
        )
        _run_effect(job, "role", create_role, server.has_role, server.drop_role)
        _run_effect(job, "database", server.create_database, server.has_database, server.drop_database)
        _run_effect(job, "open", server.open, server.is_open, server.close)
        return {
            "database": server.database,
            "role": server.role,
            "dsn": server.dsn(password, address=settings.PROVISION_PUBLIC_ADDRESS),
        }


def _run_effect(
    job: JobHandle,
    step: str,
    call: Callable[[UUID], dict[str, Any]],
    is_done: Callable[[UUID], bool],
    undo: Callable[[UUID], dict[str, Any]],
) -> None:
    """Run an effect that recognizes its own work by the mark, so that it can be repeated at any time."""
    job.effect(
        step,
        lambda _key: call(job.id),
        timeout=call_timeout(),
        key_window=IDEMPOTENT_BY_NATURE,
        reconcile=lambda _key: {"step": step} if is_done(job.id) else None,
        compensate=Compensation(
            call=lambda _result, _key: undo(job.id),
            key_window=IDEMPOTENT_BY_NATURE,
            reconcile=lambda _result, _key: None if is_done(job.id) else {"step": step},
        ),
    )


def _new_password() -> dict[str, str]:
    return {"password": secrets.token_urlsafe(_PASSWORD_BYTES)}
