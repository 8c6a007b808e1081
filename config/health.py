"""Whether this process is up (`/livez`), and whether it can do its work (`/readyz`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import redis
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

_NEVER_CACHED = {"Cache-Control": "no-store"}


def livez(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """204 as long as the process answers at all."""
    return HttpResponse(status=204, content_type="text/plain", headers=_NEVER_CACHED)


def readyz(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """200 while requests can be accepted: database and migrations. A broker that is down is `degraded`, and still ready."""
    database = _database()
    status: Mapping[str, str] = {"database": database, "broker": _broker()}
    return JsonResponse(status, status=200 if database == "ok" else 503, headers=_NEVER_CACHED)


def _database() -> str:
    try:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except (DatabaseError, InterfaceError):
        return "down"
    return "migrations missing" if missing else "ok"


def _broker() -> str:
    seconds = settings.PUBLISH_CONNECT_SECONDS
    try:
        with redis.Redis.from_url(
            settings.REDIS_URL, socket_connect_timeout=seconds, socket_timeout=seconds
        ) as client:
            client.ping()
    except redis.RedisError:
        return "degraded"
    return "ok"
