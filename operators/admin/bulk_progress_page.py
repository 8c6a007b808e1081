"""Bulk actions on filters: the list, the progress of one, and a button to stop it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.http import Http404
from django.shortcuts import redirect

from jobs.models import BulkAction
from operators import bulk_actions
from operators.admin.bulk_start_page import LABELS
from operators.admin.list_page import list_page
from operators.admin.page_base import actor_of, may, render_page, requires

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@requires("jobs.view_job")
def show_bulk_actions(request: HttpRequest) -> HttpResponse:
    """Show a page of bulk actions, newest first."""
    rows, links = list_page(request, BulkAction.objects.all())
    return render_page(request, "bulk_list.html", title="Bulk actions", bulk_actions=rows, **links)


@requires("jobs.view_job")
def show_bulk_action(request: HttpRequest, bulk_id: int) -> HttpResponse:
    """Show the progress and the refusals. The page refreshes automatically until the action has finished."""
    bulk = BulkAction.objects.filter(pk=bulk_id).first()
    if bulk is None:
        raise Http404("This bulk action does not exist.")
    options = {**bulk.selection, **bulk.said}
    return render_page(
        request,
        "bulk_progress.html",
        title=f"{LABELS.get(bulk.action, bulk.action)}: bulk action {bulk.pk}",
        bulk=bulk,
        is_finished=bulk.finished_at is not None,
        options=[(name.replace("_", " "), value) for name, value in options.items() if value is not None],
        may_operate=may(request, "jobs.operate_job"),
    )


@requires("jobs.operate_job")
def stop_bulk_action(request: HttpRequest, bulk_id: int) -> HttpResponse:
    """POST stops the action, audited. Jobs that it has changed stay changed."""
    if request.method == "POST":
        stopped = bulk_actions.stop_bulk_action(bulk_id=bulk_id, actor=actor_of(request))
        messages.success(request, "Stopped." if stopped else "The bulk action had already finished.")
    return redirect("admin:jobs_bulkaction_change", bulk_id=bulk_id)
