"""resources.drop_database: drop a database that resources.provision_database created, its role and its contents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from rest_framework import serializers

from jobs.operations import IDEMPOTENT_BY_NATURE, Operation, PermanentError
from operations.databases.provision import DatabaseParams
from operations.databases.server import call_timeout, server_for

if TYPE_CHECKING:
    from jobs.operations import JobHandle
    from operations.databases.server import PostgresServer


class DropResult(serializers.Serializer[dict[str, Any]]):
    """What was dropped."""

    database = serializers.CharField()
    role = serializers.CharField()


class DropDatabase(Operation):
    """Drop a provisioned database and its role. Open connections to it are closed."""

    name = "resources.drop_database"
    params = DatabaseParams
    result = DropResult
    timeout_seconds = 120

    def perform(self, params: dict[str, Any], job: JobHandle) -> dict[str, Any]:
        """Drop database and role. What a later job creates under the same name has another mark and is not touched."""
        server = server_for(job, params["name"])
        creator = UUID(job.step("creator", lambda: _find_creator(server)))
        job.effect(
            "database",
            lambda _key: server.drop_database(creator),
            timeout=call_timeout(),
            key_window=IDEMPOTENT_BY_NATURE,
            reconcile=lambda _key: None if server.has_database(creator) else {"database": server.database},
        )
        job.effect(
            "role",
            lambda _key: server.drop_role(creator),
            timeout=call_timeout(),
            key_window=IDEMPOTENT_BY_NATURE,
            reconcile=lambda _key: None if server.has_role(creator) else {"role": server.role},
        )
        return {"database": server.database, "role": server.role}


def _find_creator(server: PostgresServer) -> str:
    creator = server.creator()
    if creator is None:
        # The same for a database of another tenant and for one that Semel did not create.
        raise PermanentError("You have no database with this name.", code="no_such_database")
    return creator
