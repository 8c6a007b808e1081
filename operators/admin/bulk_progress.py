"""What was done to whole filters, and what is being done: how far it is, what came of it, and a button to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin, messages
from django.http import Http404
from django.shortcuts import redirect
from django.urls import path

from jobs.keyset import page_by_id
from jobs.models import BulkAction
from operators import bulk_actions
from operators.admin import page_links
from operators.admin.bulk_pages import ACTS
from operators.admin.pages import ROWS, LookOnly, actor_of, may, page, requires

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse
    from django.urls import URLPattern


@requires("jobs.view_job")
def show_bulks(request: HttpRequest) -> HttpResponse:
    """A page of what was done to whole filters, newest first."""
    listed = page_by_id(BulkAction.objects.all(), limit=ROWS, **page_links.place(request.GET))
    return page(
        request,
        "bulk_list.html",
        title="Bulk actions",
        bulks=listed.rows,
        **page_links.around(listed, request.GET),
    )


@requires("jobs.view_job")
def show_bulk(request: HttpRequest, bulk_id: int) -> HttpResponse:
    """How far it is and what came of it; the page comes again by itself until it is over."""
    found = BulkAction.objects.filter(pk=bulk_id).first()
    if found is None:
        raise Http404("There is no such bulk action.")
    said = {**found.selection, **found.said}
    return page(
        request,
        "bulk_progress.html",
        title=f"{ACTS.get(found.action, found.action)} many, no. {found.pk}",
        bulk=found,
        is_over=found.finished_at is not None,
        wanted=[(name.replace("_", " "), value) for name, value in said.items() if value is not None],
        may_operate=may(request, "jobs.operate_job"),
    )


@requires("jobs.operate_job")
def stop_bulk(request: HttpRequest, bulk_id: int) -> HttpResponse:
    """POST stops it where it is, audited; what was done stays done."""
    if request.method == "POST":
        stopped = bulk_actions.stop_bulk(bulk_id=bulk_id, actor=actor_of(request))
        messages.success(request, "Stopped." if stopped else "It was over already.")
    return redirect("admin:jobs_bulkaction_change", bulk_id=bulk_id)


@admin.register(BulkAction)
class BulkActionAdmin(LookOnly):
    """What was done to whole filters."""

    def get_urls(self) -> list[URLPattern]:
        """The pages of bulk actions, in place of Django's."""
        view = self.admin_site.admin_view
        return [
            path("", view(show_bulks), name="jobs_bulkaction_changelist"),
            path("<int:bulk_id>/", view(show_bulk), name="jobs_bulkaction_change"),
            path("<int:bulk_id>/stop/", view(stop_bulk), name="jobs_bulkaction_stop"),
        ]
