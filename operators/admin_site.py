"""The admin's site: made for the people on call, who must get an answer, quickly, and in HTML."""

from __future__ import annotations

from functools import wraps
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError, connection, transaction
from django.http import Http404
from django.shortcuts import render
from django.template.response import SimpleTemplateResponse
from django.urls import reverse
from psycopg.errors import QueryCanceled

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest
    from django.http.response import HttpResponse, HttpResponseBase

    View = Callable[..., HttpResponseBase]

log = structlog.get_logger(__name__)

_LOOKING = ("GET", "HEAD")
_SHORT_OF_TIME = "SELECT set_config('statement_timeout', %s, TRUE)"  # for this transaction


class OperatorSite(AdminSite):
    """Django's admin with a limit on every look, and pages in place of bare errors."""

    site_header = site_title = "Semel"
    index_title = "Is all well?"
    index_template = "operators/index.html"
    site_url = "/docs"

    def admin_view(self, view: View, cacheable: bool = False) -> View:  # type: ignore[override] # noqa: FBT001, FBT002 - Django's
        """The view behind its login, whose refusals are pages too."""
        return _explained(super().admin_view(_limited(view), cacheable))

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """As Django's, with the pages that are no model's before the jobs."""
        apps = super().get_app_list(request, app_label)
        for app in apps:
            if app["app_label"] == "jobs" and request.user.has_perm("jobs.view_job"):
                app["models"][:0] = [_entry(name, address) for name, address in _PAGES.items()]
        return apps


_PAGES = {"Needs attention": "admin:jobs_job_attention", "Errors": "admin:jobs_job_errors"}


def _entry(name: str, address: str) -> dict[str, Any]:
    """What Django's lists know of a model."""
    return {
        "name": name,
        "object_name": name.replace(" ", ""),
        "admin_url": reverse(address),
        "view_only": True,
        "perms": {},
    }


def _limited(view: View) -> View:
    """The view, and the rendering of its page, in which no statement of a mere look takes longer than ADMIN_STATEMENT_SECONDS.

    A transaction of its own, since behind a pooler a session's setting would be somebody else's next. What changes
    something keeps the process's own time-out: its services own their transactions.
    """

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **captured: Any) -> HttpResponseBase:  # noqa: ANN401 - any view's
        if request.method not in _LOOKING:
            return _rendered(view(request, *args, **captured))
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(_SHORT_OF_TIME, [f"{settings.ADMIN_STATEMENT_SECONDS * 1000:.0f}"])
            return _rendered(view(request, *args, **captured))

    return answer


def _explained(view: View) -> View:
    """What was refused, is not there or took too long is told in HTML, with a way on."""

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **captured: Any) -> HttpResponseBase:  # noqa: ANN401 - any view's
        try:
            return view(request, *args, **captured)
        except PermissionDenied as error:
            said = str(error) or "Your account may look, and not do this."
            return _page(request, 403, "Not allowed", said)
        except Http404 as error:
            return _page(request, 404, "Not found", str(error) or "There is nothing at this address.")
        except (OperationalError, InterfaceError) as error:
            if isinstance(error.__cause__, QueryCanceled):
                return _page(request, 503, "This took too long", _TOO_LONG.format(settings))
            log.warning("admin.database_down", error=repr(error))
            return _page(request, 503, "The database does not answer", _AWAY)

    return answer


_TOO_LONG = (
    "The database stopped after {0.ADMIN_STATEMENT_SECONDS:g} seconds, so that a look costs the service little. "
    "Nothing was changed. Narrow the question: a shorter time, a tenant, a state; or search for one id or key."
)
_AWAY = "Nothing is known of what you asked for. Try again in a moment; /readyz and the logs say more."


def _rendered(response: HttpResponseBase) -> HttpResponseBase:
    """The response, which reads the database no more."""
    return response.render() if isinstance(response, SimpleTemplateResponse) else response


def _page(request: HttpRequest, status: int, title: str, said: str) -> HttpResponse:
    """A page for which nothing needs to be read."""
    page = render(request, "operators/error_page.html", {"title": title, "said": said}, status=status)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        page.headers["Retry-After"] = "1"
    return page
