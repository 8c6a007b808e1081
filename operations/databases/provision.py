"""resources.provision_database: a PostgreSQL database with a role of its own, who alone can connect to it."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from django.conf import settings
from rest_framework import serializers

from jobs.operations import IDEMPOTENT_BY_NATURE, Compensation, Operation
from operations.databases.configured_server import DatabaseParams, call_timeout, server_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobs.operations import JobHandle

# Bytes of chance in a password: not to be guessed by anybody, ever.
_PASSWORD_BYTES = 32


class ProvisionResult(serializers.Serializer[dict[str, Any]]):
    """What was made, and how to connect to it."""

    database = serializers.CharField()
    role = serializers.CharField()
    dsn = serializers.CharField(help_text="With the password, which stands nowhere else.")


class ProvisionDatabase(Operation):
    """Provision a database and its role. Where that fails for good, or is canceled, nothing of them is left.

    No identity: a name is free again once its database was dropped. Who has it meanwhile stands in the server's catalogue,
    where the first of two jobs wins and the other is refused.
    """

    name = "resources.provision_database"
    params = DatabaseParams
    result = ProvisionResult
    timeout_seconds = 120

    def perform(self, params: dict[str, Any], job: JobHandle) -> dict[str, Any]:
        """Role and database are there, and the result says how to use them.

        The password is remembered before the server hears of it, so that it is the same in every attempt. It stands in that
        step and in the result, which are erased together, and in no effect's record.
        """
        server = server_for(job, params["name"])
        password = job.step("password", _new_password)["password"]
        limit = settings.PROVISION_CONNECTION_LIMIT

        def make(
            step: str,
            call: Callable[[], dict[str, Any]],
            is_made: Callable[[], bool],
            undo: Callable[[], dict[str, Any]],
        ) -> None:
            """Asked again, each of the three finds its own work by the mark: that is why it may be repeated for ever."""
            made = {"name": server.database}
            job.effect(
                step,
                lambda _key: call(),
                timeout=call_timeout(),
                key_window=IDEMPOTENT_BY_NATURE,
                reconcile=lambda _key: made if is_made() else None,
                compensate=Compensation(
                    call=lambda _made, _key: undo(),
                    key_window=IDEMPOTENT_BY_NATURE,
                    reconcile=lambda _made, _key: None if is_made() else made,
                ),
            )

        make(
            "role",
            lambda: server.create_role(job.id, password=password, connection_limit=limit),
            lambda: server.has_role(job.id),
            lambda: server.drop_role(job.id),
        )
        make(
            "database",
            lambda: server.create_database(job.id),
            lambda: server.has_database(job.id),
            lambda: server.drop_database(job.id),
        )
        make(
            "open",
            lambda: server.open(job.id),
            lambda: server.is_open(job.id),
            lambda: server.close(job.id),
        )
        return {
            "database": server.database,
            "role": server.role,
            "dsn": server.dsn(password, address=settings.PROVISION_PUBLIC_ADDRESS),
        }


def _new_password() -> dict[str, str]:
    return {"password": secrets.token_urlsafe(_PASSWORD_BYTES)}
