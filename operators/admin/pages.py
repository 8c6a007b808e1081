"""What each page of the admin is made with: who may see it, and what frames it."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.template.response import TemplateResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse, QueryDict

    View = Callable[..., HttpResponse]

# Rows of one page of a list: a screen or two.
ROWS = 50


class LookOnly(admin.ModelAdmin):  # type: ignore[type-arg] # not subscriptable at run time
    """A model whose rows nobody adds, edits or deletes by hand: what changes them is a service."""

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002 - Django's signature
        """Nobody."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:  # noqa: ARG002
        """Nobody."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:  # noqa: ARG002
        """Nobody."""
        return False


def requires(permission: str) -> Callable[[View], View]:
    """Only who has the permission ("jobs.view_job") gets to the view; anybody else is refused with 403."""

    def decorate(view: View) -> View:
        @wraps(view)
        def answer(request: HttpRequest, *args: Any, **captured: Any) -> HttpResponse:  # noqa: ANN401 - any view's
            if not may(request, permission):
                raise PermissionDenied
            return view(request, *args, **captured)

        return answer

    return decorate


def may(request: HttpRequest, permission: str) -> bool:
    """Whether the user of the request has the permission."""
    return isinstance(request.user, User) and request.user.has_perm(permission)


def posted(request: HttpRequest) -> QueryDict | None:
    """What a form is bound to: what was sent, were it nothing; None where the form is only to be shown."""
    return request.POST if request.method == "POST" else None


def actor_of(request: HttpRequest) -> str:
    """Who does this, for the audit log."""
    return f"user {request.user.get_username()}"


def page(
    request: HttpRequest,
    template: str,
    *,
    title: str,
    status: int = 200,
    **context: Any,  # noqa: ANN401
) -> TemplateResponse:
    """The template in the admin's frame."""
    framed = {**admin.site.each_context(request), "title": title, **context}
    return TemplateResponse(request, f"operators/{template}", framed, status=status)
