"""Pauses in the admin: what is held back, and how many still run under it; pause, resume, drain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django import forms
from django.contrib import admin, messages
from django.shortcuts import redirect
from django.urls import path

from accounts.models import Tenant
from jobs.models import Pause
from jobs.registry import operations
from operators import pauses
from operators.admin.job_act import REFUSALS, NotedForm
from operators.admin.pages import LookOnly, actor_of, may, page, posted, requires

if TYPE_CHECKING:
    from typing import Any

    from django.http import HttpRequest, HttpResponse
    from django.urls import URLPattern


class PauseForm(NotedForm):
    """What to hold back: one of the two, both together, or everything, which must be said."""

    operation = forms.CharField(max_length=100, required=False, help_text="Empty: every operation.")
    tenant = forms.ModelChoiceField(
        Tenant.objects.order_by("name"), empty_label="every tenant", required=False
    )
    everything = forms.BooleanField(required=False, label="Drain: hold back everything")
    field_order = ["operation", "tenant", "everything", "note"]

    def clean(self) -> dict[str, Any]:
        """Nobody drains the whole by leaving two fields empty."""
        said = self.cleaned_data
        names_something = bool(said.get("operation") or said.get("tenant"))
        if names_something == bool(said.get("everything")):
            raise forms.ValidationError(
                "Name an operation, a tenant or both; or say that everything is to be drained."
            )
        return said


@requires("jobs.view_job")
def show_pauses(request: HttpRequest) -> HttpResponse:
    """The pauses in force, and the form for another. POST makes it, audited."""
    may_operate = may(request, "jobs.operate_job")
    form = PauseForm(posted(request) if may_operate else None)
    return page(
        request,
        "pauses.html",
        title="Pauses",
        pauses=pauses.pauses(),
        form=form if may_operate else None,
        known_operations=sorted({name for name, _ in operations()}),
        may_operate=may_operate,
    )


@requires("jobs.operate_job")
def add_pause(request: HttpRequest) -> HttpResponse:
    """POST makes the pause, audited; it is shown beside the others. Done twice, the second is refused."""
    form = PauseForm(posted(request))
    if not form.is_valid():
        return show_pauses(request)
    said = form.cleaned_data
    try:
        pauses.pause(
            operation=said["operation"] or None,
            tenant_id=said["tenant"] and said["tenant"].id,
            actor=actor_of(request),
            note=said["note"],
        )
    except REFUSALS as error:
        messages.error(request, f"Not done. {error}")
    else:
        messages.success(request, "Paused. What runs already goes on to its end.")
    return redirect("admin:jobs_pause_changelist")


@requires("jobs.operate_job")
def resume(request: HttpRequest, pause_id: int) -> HttpResponse:
    """POST ends the pause, audited; the sweeper publishes what was held back. Done twice, the second is told."""
    if request.method == "POST":
        try:
            pauses.resume(pause_id=pause_id, actor=actor_of(request), note=request.POST.get("note", ""))
        except REFUSALS as error:
            messages.error(request, f"Not done. {error}")
        else:
            messages.success(request, "Resumed. What was held back is published within seconds.")
    return redirect("admin:jobs_pause_changelist")


@admin.register(Pause)
class PauseAdmin(LookOnly):
    """Pauses: the list with its form."""

    def get_urls(self) -> list[URLPattern]:
        """The pages of pauses, in place of Django's."""
        view = self.admin_site.admin_view
        return [
            path("", view(show_pauses), name="jobs_pause_changelist"),
            path("add/", view(add_pause), name="jobs_pause_add"),
            path("<int:pause_id>/resume/", view(resume), name="jobs_pause_resume"),
        ]
