"""Code that the admin's pages share.

Permissions, rendering, the forms for a note, and messages about the outcome of a service.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, QueryDict
from django.template.response import TemplateResponse
from django.urls import path

from idempotency.errors import IdempotencyError
from jobs.errors import JobError

if TYPE_CHECKING:
    from django.urls import URLPattern

    View = Callable[..., HttpResponse]

# What services raise when they refuse. Their messages are shown to operators.
REFUSALS = (JobError, IdempotencyError, ValueError)


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg] # not subscriptable at run time
    """A model whose rows change only through services. `pages` replace Django's own pages."""

    # Route, URL name without the model, permission, view.
    pages: ClassVar[Sequence[tuple[str, str, str, View]]] = ()

    def get_urls(self) -> list[URLPattern]:
        view, model = self.admin_site.admin_view, f"{self.opts.app_label}_{self.opts.model_name}"
        return [
            path(route, view(_require(permission, show)), name=f"{model}_{name}")
            for route, name, permission, show in self.pages
        ] or super().get_urls()

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002 - Django's signature
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:  # noqa: ARG002
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:  # noqa: ARG002
        return False


class NoteForm(forms.Form):
    """An optional note."""

    note = forms.CharField(
        label="Note (optional)",
        max_length=2_000,
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Kept in the audit log with your name.",
    )


class ReasonForm(NoteForm):
    """A mandatory note."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type] # passed on
        self.fields["note"].required, self.fields["note"].label = True, "Reason"


def _require(permission: str, view: View) -> View:
    """Return the view, which refuses with 403 users who do not have the permission."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **captured: Any) -> HttpResponse:  # noqa: ANN401 - any view's
        if not may(request, permission):
            raise PermissionDenied
        return view(request, *args, **captured)

    return checked


def may(request: HttpRequest, permission: str) -> bool:
    """Return whether the request's user has the permission."""
    return isinstance(request.user, User) and request.user.has_perm(permission)


def form_data(request: HttpRequest) -> QueryDict | None:
    """Return the data for a form: what a POST sent, even if empty; None for a form that is only shown."""
    return request.POST if request.method == "POST" else None


def actor_of(request: HttpRequest) -> str:
    """Return the user's name in the audit log."""
    return f"user {request.user.get_username()}"


def run_service(request: HttpRequest, service: Callable[[], object], *, success: str) -> None:
    """Run the service and show on the next page that it succeeded, or why it refused."""
    try:
        service()
    except REFUSALS as error:
        messages.error(request, f"Not done. {error}")
    else:
        messages.success(request, success)


def render_page(request: HttpRequest, template: str, *, title: str, **context: Any) -> TemplateResponse:  # noqa: ANN401
    """Render the template in the admin's frame."""
    framed = {**admin.site.each_context(request), "title": title, **context}
    return TemplateResponse(request, f"operators/{template}", framed)
