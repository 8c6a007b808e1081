"""Actions on many jobs: selected rows at once, or all jobs that match a filter through the maintenance worker.

A preview shows the jobs or their number; the confirmation needs a reason. Each job goes through the service that its own page
calls, so that a job whose state has changed is refused.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone

from jobs.models import BulkAction
from jobs.selectors import jobs_by_id
from operators import bulk_actions, job_actions
from operators.admin.job_filters import JobFilterForm
from operators.admin.list_page import ROWS, link, list_page
from operators.admin.page_base import REFUSALS, ReasonForm, actor_of, form_data, may, render_page
from operators.admin.resolve_page import VerdictForm
from operators.job_detail import get_record, open_effects

if TYPE_CHECKING:
    from jobs.models import Job
    from jobs.selectors import JobFilter

LABELS = {"cancel": "Cancel", "redrive": "Redrive", "resolve": "Resolve", "release": "Release keys"}


def act_on_many(request: HttpRequest) -> HttpResponse:
    """GET previews the action that the address names, for selected rows or a filter. POST runs it."""
    action = request.GET.get("action", "")
    if action not in LABELS:
        raise Http404("This action does not exist.")
    form = (VerdictForm if action == "resolve" else ReasonForm)(form_data(request))
    act = _act_on_selected if request.GET.get("scope") == "selected" else _act_on_filter
    return act(request, action, form)


def _act_on_selected(request: HttpRequest, action: str, form: ReasonForm) -> HttpResponse:
    jobs = jobs_by_id(_selected_ids(request))
    if not form.is_valid() or not jobs:
        return _render_preview(request, action, form=form, count=str(len(jobs)), jobs=jobs)
    results = [(job, _act(action, job, {**form.cleaned_data, "actor": actor_of(request)})) for job in jobs]
    changed = sum(refusal is None for _, refusal in results)
    title = f"{LABELS[action]}: {changed} of {len(jobs)} done"
    return render_page(request, "bulk_results.html", title=title, results=results)


def _act(action: str, job: Job, data: dict[str, Any]) -> str | None:
    """Act on the job. Return the refusal, if any."""
    try:
        match action:
            case "cancel":
                job_actions.cancel_job(job_id=job.id, **data)
            case "redrive":
                job_actions.redrive_job(job_id=job.id, **data)
            case "resolve":
                effects = open_effects(job.id)
                if len(effects) > 1:
                    return "Several effects have an unknown outcome. Resolve them on the job's page."
                job_actions.resolve_job(job_id=job.id, step=effects[0].name if effects else "", **data)
            case "release":
                record = get_record(job)
                if record is None:
                    return "The key is already free."
                job_actions.release_key(record_id=record.id, owner=record.owner, **data)
    except REFUSALS as error:
        return str(error)
    return None


def _act_on_filter(request: HttpRequest, action: str, form: ReasonForm) -> HttpResponse:
    now = timezone.now()
    # The time of the preview: jobs accepted after it are not included.
    form.fields["as_of"] = forms.DateTimeField(widget=forms.HiddenInput, required=False, initial=now.isoformat())
    previewed_at = (form.cleaned_data.pop("as_of") if form.is_valid() else None) or now
    try:
        job_filter = _job_filter(request, previewed_at)
        count = str(bulk_actions.preview(job_filter))
        if form.is_valid():
            started = bulk_actions.start_bulk_action(
                action=BulkAction.Action(action), job_filter=job_filter, actor=actor_of(request), **form.cleaned_data
            )
            messages.success(request, "Started. The maintenance worker processes the jobs in batches.")
            return redirect("admin:jobs_bulkaction_change", bulk_id=started.id)
    except REFUSALS as error:
        messages.error(request, f"Not started. {error}")
        return redirect(_list_link(request))
    return _render_preview(request, action, form=form, count=count, jobs=None)


def _job_filter(request: HttpRequest, previewed_at: datetime) -> JobFilter:
    """Return the filter, bounded by the time of the preview. Raises ValueError if it has errors."""
    form = JobFilterForm(request.GET)
    if not form.is_valid():
        raise ValueError("The filter has errors.")
    job_filter = form.job_filter()
    return replace(job_filter, created_before=min(job_filter.created_before or previewed_at, previewed_at))


def _render_preview(request: HttpRequest, action: str, **context: Any) -> HttpResponse:  # noqa: ANN401
    names = [name for name in request.GET if name in JobFilterForm.base_fields and request.GET[name]]
    return render_page(
        request,
        "bulk_preview.html",
        title=f"{LABELS[action]}: preview",
        label=LABELS[action],
        filters=[(name.replace("_", " "), request.GET[name]) for name in names],
        back=_list_link(request),
        **context,
    )


def _list_link(request: HttpRequest) -> str:
    """Return the list of jobs with the same filter."""
    return f"../{link(request.GET, action=None, scope=None, job=None)}"


def _selected_ids(request: HttpRequest) -> list[UUID]:
    """Return the ids of the selected rows, at most those of one page."""
    job_ids = []
    for text in request.GET.getlist("job"):
        try:
            job_ids.append(UUID(text))
        except ValueError:
            continue
    return job_ids[:ROWS]


def show_bulk_actions(request: HttpRequest) -> HttpResponse:
    """Show a page of bulk actions, newest first."""
    rows, links = list_page(request, BulkAction.objects.all())
    return render_page(request, "bulk_list.html", title="Bulk actions", bulk_actions=rows, **links)


def show_bulk_action(request: HttpRequest, bulk_id: int) -> HttpResponse:
    """Show the progress and the refusals. The page refreshes automatically until the action has finished."""
    bulk = get_object_or_404(BulkAction, pk=bulk_id)
    options = {**bulk.selection, **bulk.resolution}
    return render_page(
        request,
        "bulk_progress.html",
        title=f"{LABELS.get(bulk.action, bulk.action)}: bulk action {bulk.pk}",
        bulk=bulk,
        is_finished=bulk.finished_at is not None,
        options=[(name.replace("_", " "), value) for name, value in options.items() if value is not None],
        may_operate=may(request, "jobs.operate_job"),
    )


def stop_bulk_action(request: HttpRequest, bulk_id: int) -> HttpResponse:
    """POST stops the action, audited. Jobs that it has changed stay changed."""
    if request.method == "POST":
        stopped = bulk_actions.stop_bulk_action(bulk_id=bulk_id, actor=actor_of(request))
        messages.success(request, "Stopped." if stopped else "The bulk action had already finished.")
    return redirect("admin:jobs_bulkaction_change", bulk_id=bulk_id)
