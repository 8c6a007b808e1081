"""Pauses in the admin: the pauses in force, pause, resume, drain."""

from functools import partial
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from accounts.models import Tenant
from operators.admin.page_base import ReasonForm, actor_of, form_data, may, render_page, run_service
from operators.pauses import list_pauses, pause, resume


class PauseForm(ReasonForm):
    """An operation, a tenant, both together, or everything."""

    operation = forms.CharField(max_length=100, required=False, help_text="Leave empty for every operation.")
    tenant = forms.ModelChoiceField(Tenant.objects.order_by("name"), empty_label="every tenant", required=False)
    everything = forms.BooleanField(required=False, label="Drain: pause everything")
    field_order = ["operation", "tenant", "everything", "note"]

    def clean(self) -> dict[str, Any]:
        """Require an explicit choice, so that two empty fields never pause everything."""
        data = self.cleaned_data
        names_something = bool(data.get("operation") or data.get("tenant"))
        if names_something == bool(data.get("everything")):
            raise forms.ValidationError(
                "Choose an operation, a tenant or both; or choose to pause everything, and nothing else."
            )
        return data


def show_pauses(request: HttpRequest) -> HttpResponse:
    """Show the pauses in force, and to operators the form for a new one."""
    may_operate = may(request, "jobs.operate_job")
    return render_page(
        request,
        "pauses.html",
        title="Pauses",
        pauses=list_pauses(),
        form=PauseForm(form_data(request)) if may_operate else None,
        may_operate=may_operate,
    )


def add_pause(request: HttpRequest) -> HttpResponse:
    """POST creates the pause, audited. A repeated POST is refused."""
    form = PauseForm(form_data(request))
    if not form.is_valid():
        return show_pauses(request)
    data = form.cleaned_data
    service = partial(
        pause,
        operation=data["operation"] or None,
        tenant_id=data["tenant"] and data["tenant"].id,
        actor=actor_of(request),
        note=data["note"],
    )
    run_service(request, service, success="Paused. Running jobs continue to their end.")
    return redirect("admin:jobs_pause_changelist")


def resume_pause(request: HttpRequest, pause_id: int) -> HttpResponse:
    """POST ends the pause, audited. A repeated POST is refused."""
    if request.method == "POST":
        service = partial(resume, pause_id=pause_id, actor=actor_of(request), note=request.POST.get("note", ""))
        run_service(request, service, success="Resumed. The paused jobs are published within seconds.")
    return redirect("admin:jobs_pause_changelist")
