"""The list of jobs: filters, exact search, pages by id."""

from typing import Any

from django.db.models import prefetch_related_objects
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from jobs.selectors import filter_by_index
from jobs.states import State
from operators.admin.bulk_page import LABELS
from operators.admin.job_filters import JobFilterForm, recent_links
from operators.admin.list_page import ROWS, link, list_page
from operators.admin.page_base import may, render_page
from operators.search import find_jobs


def show_jobs(request: HttpRequest) -> HttpResponse:
    """Show a page of the jobs that match the filters, or those that the search finds. A single hit opens the job.

    A page takes two statements, and one more for a tenant's operations. job_list serves those of a tenant; else job_pkey (read
    backwards), or for a rare state job_in_trouble, job_running, or job_claim with job_held.
    """
    if text := request.GET.get("q", "").strip():
        jobs = [found.job for found in find_jobs(text, limit=ROWS)]
        if len(jobs) == 1:
            return redirect("admin:jobs_job_change", job_id=jobs[0].id)
        prefetch_related_objects(jobs, "tenant")
        return _render_jobs(request, JobFilterForm(request.GET), jobs=jobs, q=text)
    form = JobFilterForm(request.GET)
    if not form.is_valid():
        return _render_jobs(request, form, jobs=[])
    hidden = ("params", "result", "error", "metadata")
    branches = [jobs.defer(*hidden).prefetch_related("tenant") for jobs in filter_by_index(form.job_filter())]
    rows, links = list_page(request, *branches)
    return _render_jobs(request, form, jobs=rows, **links)


def _render_jobs(request: HttpRequest, form: JobFilterForm, **context: Any) -> HttpResponse:  # noqa: ANN401
    query = request.GET
    states = [("all", link(query, state=None), not query.get("state"))]
    states += [(state, link(query, state=state), query.get("state") == state) for state in State]
    return render_page(
        request,
        "job_list.html",
        title="Jobs",
        form=form,
        states=states,
        recent=recent_links(query),
        may_operate=may(request, "jobs.operate_job"),
        may_act_on_filter=bool(query.get("state")) and "q" not in query,
        actions=LABELS.items(),
        filters=[(name, value) for name, value in query.items() if value and name in JobFilterForm.base_fields],
        **context,
    )
