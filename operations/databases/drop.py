"""resources.drop_database: a database that resources.provision_database made is gone, with its role and all that is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from rest_framework import serializers

from jobs.operations import IDEMPOTENT_BY_NATURE, Operation, PermanentError
from operations.databases.configured_server import DatabaseParams, call_timeout, server_for

if TYPE_CHECKING:
    from jobs.operations import JobHandle
    from operations.databases.server import PostgresServer


class DropResult(serializers.Serializer[dict[str, Any]]):
    """What is gone."""

    database = serializers.CharField()
    role = serializers.CharField()


class DropDatabase(Operation):
    """Drop a database that was provisioned, with its role. Whoever is connected to it is cut off."""

    name = "resources.drop_database"
    params = DatabaseParams
    result = DropResult
    timeout_seconds = 120

    def perform(self, params: dict[str, Any], job: JobHandle) -> dict[str, Any]:
        """Database and role are gone. What a later job makes under the name is another's, and is not touched."""
        server = server_for(job, params["name"])
        maker = UUID(job.step("maker", lambda: _maker(server)))
        job.effect(
            "database",
            lambda _key: server.drop_database(maker),
            timeout=call_timeout(),
            key_window=IDEMPOTENT_BY_NATURE,
            reconcile=lambda _key: None if server.has_database(maker) else {"database": server.database},
        )
        job.effect(
            "role",
            lambda _key: server.drop_role(maker),
            timeout=call_timeout(),
            key_window=IDEMPOTENT_BY_NATURE,
            reconcile=lambda _key: None if server.has_role(maker) else {"role": server.role},
        )
        return {"database": server.database, "role": server.role}


def _maker(server: PostgresServer) -> str:
    """The job that made it. A database of another tenant's, or of nobody's we know, is none of the client's."""
    maker = server.maker()
    if maker is None:
        raise PermanentError("You have no such database.", code="no_such_database")
    return maker
