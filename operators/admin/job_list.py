"""The list of jobs: filters, exact search, pages by id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db.models import prefetch_related_objects
from django.shortcuts import redirect

from jobs.states import State
from operators.admin.bulk_pages import ACTS
from operators.admin.job_filters import JobFilterForm, link, recent_links
from operators.admin.pages import ROWS, may, page, requires
from operators.inspection import page_of_jobs
from operators.job_search import find_jobs

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse, QueryDict


@requires("jobs.view_job")
def show_jobs(request: HttpRequest) -> HttpResponse:
    """A page of the jobs that the filters want, or those that the search names: a single one is gone to."""
    asked = request.GET
    if text := asked.get("q", "").strip():
        jobs = [found.job for found in find_jobs(text, limit=ROWS)]
        if len(jobs) == 1:
            return redirect("admin:jobs_job_change", job_id=jobs[0].id)
        prefetch_related_objects(jobs, "tenant")
        return _listed(request, jobs=jobs, q=text)
    form = JobFilterForm(asked)
    if not form.is_valid():
        return _listed(request, form=form, jobs=[])
    older, newer = _id(asked, "older_than"), _id(asked, "newer_than")
    listed = page_of_jobs(job_filter=form.job_filter(), limit=ROWS, older_than=older, newer_than=newer)
    ends = {"older_than": listed.rows[-1].id, "newer_than": listed.rows[0].id} if listed.rows else {}
    return _listed(
        request,
        form=form,
        jobs=listed.rows,
        older=link(asked, older_than=ends["older_than"]) if ends and listed.has_older else None,
        newer=link(asked, newer_than=ends["newer_than"]) if ends and listed.has_newer else None,
        newest=link(asked) if older or newer else None,
    )


def _listed(
    request: HttpRequest,
    *,
    jobs: object,
    form: JobFilterForm | None = None,
    **context: Any,  # noqa: ANN401
) -> HttpResponse:
    asked = request.GET
    chips = [("all", link(asked, state=None), not asked.get("state"))]
    chips += [(state, link(asked, state=state), asked.get("state") == state) for state in State]
    return page(
        request,
        "job_list.html",
        title="Jobs",
        jobs=jobs,
        form=form or JobFilterForm(asked),
        chips=chips,
        recent=recent_links(asked),
        may_operate=may(request, "jobs.operate_job"),
        may_act_on_filter=bool(asked.get("state")) and "q" not in asked,
        acts=ACTS.items(),
        kept=[(name, value) for name, value in asked.items() if value and name in JobFilterForm.base_fields],
        **context,
    )


def _id(asked: QueryDict, name: str) -> UUID | None:
    """A page's place; one that is none begins at the newest."""
    try:
        return UUID(str(asked[name]))
    except (KeyError, ValueError):
        return None
