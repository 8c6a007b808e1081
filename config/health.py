"""Whether this process is up (`/livez`), and whether it can do its work (`/readyz`)."""

from __future__ import annotations

from functools import cache

import redis
import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse, JsonResponse

from config.problems import unavailable

log = structlog.get_logger(__name__)

_NEVER_CACHED = {"Cache-Control": "no-store"}


def livez(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """204 as long as the process answers at all."""
    return HttpResponse(status=204, content_type="text/plain", headers=_NEVER_CACHED)


def readyz(request: HttpRequest) -> HttpResponse:
    """200 while requests can be accepted: `ready`, or `degraded` without the broker. 503 without database or migrations.

    What exactly is missing stands in the log: the address is public.
    """
    try:
        missing = _missing_migrations()
    except (DatabaseError, InterfaceError) as error:
        log.warning("readyz.database_down", error=repr(error))
        return unavailable(request, "The database does not answer.")
    if missing:
        log.warning("readyz.migrations_missing", migrations=missing)
        return unavailable(request, "The database's schema is older than this release.")
    status = "ready" if _broker_answers() else "degraded"
    return JsonResponse({"status": status}, headers=_NEVER_CACHED)


def _missing_migrations() -> list[str]:
    """Those of this release that the database has not seen. One statement."""
    applied = MigrationRecorder(connection).applied_migrations()
    return sorted(
        f"{app}.{name}" for app, name in _migrations_of_this_release() if (app, name) not in applied
    )


@cache
def _migrations_of_this_release() -> frozenset[tuple[str, str]]:
    return frozenset(MigrationLoader(None).disk_migrations)


def _broker_answers() -> bool:
    seconds = settings.PUBLISH_CONNECT_SECONDS
    try:
        with redis.Redis.from_url(
            settings.REDIS_URL, socket_connect_timeout=seconds, socket_timeout=seconds
        ) as client:
            client.ping()
    except redis.RedisError as error:
        log.warning("readyz.broker_down", error=repr(error))
        return False
    return True
