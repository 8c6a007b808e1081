"""Jobs that need an operator, with the reason; and failures, grouped by kind."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone

from jobs.states import State
from operators.admin.action_page import ACTIONS
from operators.admin.list_page import link
from operators.admin.page_base import may, render_page
from operators.attention import MAX_LISTED, count_text, group_errors, needs_attention

if TYPE_CHECKING:
    from jobs.models import Job
    from operators.admin.action_page import Action

# Periods of the errors page: names by hours.
_PERIODS = {"1": "hour", "24": "day", "168": "week", "720": "month"}


@dataclass(frozen=True)
class Section:
    """Jobs that need attention for the same reason."""

    title: str
    tone: str
    jobs: list[Job]
    action: Action | None
    link: str  # to the full list
    reason: str

    @property
    def count(self) -> str:
        return count_text(self.jobs)

    @property
    def listed(self) -> list[Job]:
        return self.jobs[:MAX_LISTED]


def show_attention(request: HttpRequest) -> HttpResponse:
    """Show each kind of jobs that need attention, the reason, and what to do."""
    sections = _sections()
    return render_page(
        request,
        "attention.html",
        title="Needs attention",
        sections=sections,
        is_empty=not any(section.jobs for section in sections),
        may_operate=may(request, "jobs.operate_job"),
    )


def show_errors(request: HttpRequest) -> HttpResponse:
    """Show the failures of the chosen period by operation, code and cause, each with a link to its jobs."""
    hours = request.GET.get("hours", "24")
    hours = hours if hours in _PERIODS else "24"
    errors = group_errors(since=timezone.now() - timedelta(hours=int(hours)))
    groups = [
        (group, _jobs(operation=group.operation, error_code=group.code, error_cause=group.cause))
        for group in errors.groups
    ]
    return render_page(
        request,
        "errors.html",
        title="Errors",
        groups=groups,
        is_complete=errors.is_complete,
        hours=hours,
        periods=_PERIODS.items(),
    )


def _jobs(**filters: str | None) -> str:
    return reverse("admin:jobs_job_changelist") + link({}, **filters)


def _sections() -> list[Section]:
    """Return all sections, the most serious first."""
    attention = needs_attention()
    return [
        Section(
            *("Unknown", "warn", attention.unknown, ACTIONS["resolve"], _jobs(state=State.UNKNOWN)),
            "The outcome of an effect is unknown. Look it up in the system that was called, then resolve the job.",
        ),
        Section(
            *("Partially done", "bad", attention.partially_done, ACTIONS["redrive"]),
            _jobs(state=State.FAILED, error_code="partially-done"),
            "The job failed after some of its effects were done. A redrive continues after the finished steps.",
        ),
        Section(
            *("Stuck: lease expired", "bad", attention.overdue_leases, None, _jobs(state=State.RUNNING)),
            "A worker stopped renewing its lease, and no sweep has ended the attempt. Check that the maintenance worker "
            "and beat are running.",
        ),
        Section(
            *("Stuck: due but not claimed", "bad", attention.overdue_jobs, ACTIONS["cancel"]),
            _jobs(state=State.QUEUED),
            f"Due for more than {settings.OVERDUE_JOB_SECONDS:g} seconds and not paused. Check that workers are running "
            "and that they know the operation.",
        ),
        Section(
            *("Failed in the last day", "calm", attention.failed, ACTIONS["redrive"], _jobs(state=State.FAILED)),
            "Every attempt failed, or the error is permanent. Read the error; a redrive runs the job again.",
        ),
    ]
