"""The admin's site: every page answers in bounded time, and errors are HTML pages."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError, connection, transaction
from django.http import Http404, HttpRequest
from django.http.response import HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.template.response import SimpleTemplateResponse
from django.urls import reverse
from psycopg.errors import QueryCanceled

from operators.overview import build_tiles

if TYPE_CHECKING:
    from django.template.response import TemplateResponse

    View = Callable[..., HttpResponseBase]

log = structlog.get_logger(__name__)

_SET_LOCAL_TIMEOUT = "SELECT set_config('statement_timeout', %s, TRUE)"
_PAGES = {"Needs attention": "admin:jobs_job_attention", "Errors": "admin:jobs_job_errors"}


class OperatorSite(AdminSite):
    """Django's admin with a time limit on reads, tiles on its first page, and error pages."""

    site_header = site_title = "Semel"
    index_title = "Overview"
    index_template = "operators/index.html"
    site_url = "/docs"

    def admin_view(self, view: View, cacheable: bool = False) -> View:  # type: ignore[override] # noqa: FBT001, FBT002 - Django's
        return _with_error_pages(super().admin_view(_with_time_limit(view), cacheable))

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        may_view = request.user.has_perm("jobs.view_job")
        return super().index(request, {**(extra_context or {}), "tiles": build_tiles() if may_view else []})

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """Return Django's list, with the pages that belong to no model before the jobs."""
        apps = super().get_app_list(request, app_label)
        for app in apps:
            if app["app_label"] == "jobs" and request.user.has_perm("jobs.view_job"):
                app["models"][:0] = [_menu_entry(name, address) for name, address in _PAGES.items()]
        return apps


def _menu_entry(name: str, address: str) -> dict[str, Any]:
    """Return an entry of the menu in the form that Django's templates expect of a model."""
    object_name = name.replace(" ", "")
    return {"name": name, "object_name": object_name, "admin_url": reverse(address), "view_only": True, "perms": {}}


def _with_time_limit(view: View) -> View:
    """Stop each statement of a GET after ADMIN_STATEMENT_SECONDS, the rendering of its page included.

    The limit is local to a transaction: behind a pooler, a session's setting would reach other clients. A POST keeps the
    process's own time-out, because its services own their transactions.
    """

    @wraps(view)
    def limited(request: HttpRequest, *args: Any, **captured: Any) -> HttpResponseBase:  # noqa: ANN401 - any view's
        if request.method not in {"GET", "HEAD"}:
            return _rendered(view(request, *args, **captured))
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(_SET_LOCAL_TIMEOUT, [f"{settings.ADMIN_STATEMENT_SECONDS * 1000:.0f}"])
            return _rendered(view(request, *args, **captured))

    return limited


def _with_error_pages(view: View) -> View:
    """Answer refusals, missing pages and database failures in HTML."""

    @wraps(view)
    def explained(request: HttpRequest, *args: Any, **captured: Any) -> HttpResponseBase:  # noqa: ANN401 - any view's
        try:
            return view(request, *args, **captured)
        except PermissionDenied as error:
            return _error_page(request, 403, "Not allowed", str(error) or _NO_PERMISSION)
        except Http404 as error:
            return _error_page(request, 404, "Not found", str(error) or "This page does not exist.")
        except (OperationalError, InterfaceError) as error:
            if isinstance(error.__cause__, QueryCanceled):
                return _error_page(request, 503, "This took too long", _TOO_LONG.format(settings))
            log.warning("admin.database_down", error=repr(error))
            return _error_page(request, 503, "The database is not available", _DATABASE_DOWN)

    return explained


_NO_PERMISSION = "Your account does not have the permission for this page. Ask an administrator for it."
_TOO_LONG = (
    "The database stopped a statement after {0.ADMIN_STATEMENT_SECONDS:g} seconds, to protect the service. Nothing was "
    "changed. Narrow the filter by time, tenant or state, or search for one id or key."
)
_DATABASE_DOWN = "The page could not be loaded. Try again in a moment. /readyz and the logs say more."


def _rendered(response: HttpResponseBase) -> HttpResponseBase:
    """Render the response now, so that it reads the database within the time limit."""
    return response.render() if isinstance(response, SimpleTemplateResponse) else response


def _error_page(request: HttpRequest, status: int, title: str, text: str) -> HttpResponse:
    """Return a page that reads nothing from the database."""
    page = render(request, "operators/error_page.html", {"title": title, "text": text}, status=status)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        page.headers["Retry-After"] = "1"
    return page
