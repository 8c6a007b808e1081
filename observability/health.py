"""`/livez`: this process is up. `/readyz`: it can accept requests."""

from functools import cache
from typing import cast

import redis
import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse, JsonResponse
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from accounts.authentication import ApiKeyAuthentication
from api.problems import unavailable
from broker.client import redis_client

log = structlog.get_logger(__name__)

_NOT_CACHED = {"Cache-Control": "no-store"}


def livez(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - Django's signature
    return HttpResponse(status=204, content_type="text/plain", headers=_NOT_CACHED)


def readyz(request: HttpRequest) -> HttpResponse:
    """Return 200 if requests can be accepted: `ready`, or `degraded` without the broker. 503 without database or migrations.

    The URL is public. Details are logged, and shown only to API keys with the scope admin and to operators who are logged in.
    """
    try:
        missing = missing_migrations()
        shows_details = _is_operator(request)
    except (DatabaseError, InterfaceError) as error:
        log.warning("readyz.database_down", error=repr(error))
        return unavailable(request, "The database does not answer.")
    if missing:
        log.warning("readyz.migrations_missing", migrations=missing)
        details = f" Missing: {', '.join(missing)}." if shows_details else ""
        return unavailable(request, f"The database's schema is older than this release.{details}")
    has_broker = _broker_answers()
    document: dict[str, object] = {"status": "ready" if has_broker else "degraded"}
    if shows_details:
        document["details"] = {
            "database": "answers",
            "broker": "answers" if has_broker else "does not answer",
            "migrations": "applied",
        }
    return JsonResponse(document, headers=_NOT_CACHED)


def _is_operator(request: HttpRequest) -> bool:
    """Return whether the request is from an operator. A request without credentials causes no query."""
    if request.user.is_authenticated and request.user.is_staff:
        return True
    try:
        identity = ApiKeyAuthentication().authenticate(cast("Request", request))
    except AuthenticationFailed:
        return False
    return identity is not None and identity[0].is_admin


def missing_migrations() -> list[str]:
    """Return the migrations of this release that are not applied. One statement."""
    applied = MigrationRecorder(connection).applied_migrations()
    return [".".join(migration) for migration in sorted(release_migrations()) if migration not in applied]


@cache
def release_migrations() -> frozenset[tuple[str, str]]:
    """Return app and name of each migration of this release."""
    return frozenset(MigrationLoader(None).disk_migrations)


def _broker_answers() -> bool:
    try:
        redis_client(timeout_seconds=settings.PUBLISH_CONNECT_SECONDS).ping()
    except redis.RedisError as error:
        log.warning("readyz.broker_down", error=repr(error))
        return False
    return True
