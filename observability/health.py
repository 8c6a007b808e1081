"""Whether this process is up (`/livez`), and whether it can do its work (`/readyz`)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, cast

import redis
import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse, JsonResponse
from rest_framework.exceptions import AuthenticationFailed

from accounts.authentication import ApiKeyAuthentication
from api.problems import unavailable
from broker.client import redis_client

if TYPE_CHECKING:
    from rest_framework.request import Request

log = structlog.get_logger(__name__)

_NEVER_CACHED = {"Cache-Control": "no-store"}


def livez(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """204 as long as the process answers at all."""
    return HttpResponse(status=204, content_type="text/plain", headers=_NEVER_CACHED)


def readyz(request: HttpRequest) -> HttpResponse:
    """200 while requests can be accepted: `ready`, or `degraded` without the broker. 503 without database or migrations.

    The address is public, and what exactly is missing stands in the log; an API key with the scope admin, or a session of the
    admin's, is told here as well.
    """
    try:
        missing = _missing_migrations()
        may_know = _may_know(request)
    except (DatabaseError, InterfaceError) as error:
        log.warning("readyz.database_down", error=repr(error))
        return unavailable(request, "The database does not answer.")
    if missing:
        log.warning("readyz.migrations_missing", migrations=missing)
        told = f" Missing: {', '.join(missing)}." if may_know else ""
        return unavailable(request, f"The database's schema is older than this release.{told}")
    has_broker = _broker_answers()
    document: dict[str, object] = {"status": "ready" if has_broker else "degraded"}
    if may_know:
        document["details"] = {
            "database": "answers",
            "broker": "answers" if has_broker else "does not answer",
            "migrations": "applied",
        }
    return JsonResponse(document, headers=_NEVER_CACHED)


def _may_know(request: HttpRequest) -> bool:
    """Whether an operator asks. Nothing is looked up for whoever shows nothing, and a wrong key is told no more than none."""
    if request.user.is_authenticated and request.user.is_staff:
        return True
    try:
        let_in = ApiKeyAuthentication().authenticate(cast("Request", request))
    except AuthenticationFailed:
        return False
    return let_in is not None and let_in[0].is_admin


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
    try:
        redis_client(timeout_seconds=settings.PUBLISH_CONNECT_SECONDS).ping()
    except redis.RedisError as error:
        log.warning("readyz.broker_down", error=repr(error))
        return False
    return True
