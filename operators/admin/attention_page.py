"""What needs somebody: jobs that wait for a person, and failures by their kind."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from django.conf import settings
from django.urls import reverse
from django.utils import timezone

from jobs.states import State
from operators.admin.action_buttons import ACTIONS
from operators.admin.pages import may, page, requires
from operators.attention import errors_grouped, needs_attention

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from jobs.models import Job
    from operators.admin.action_buttons import Action
    from operators.attention import Attention

# Jobs of one kind that the page lists; more are a question for the list.
SHOWN = 50
# How far back failures may be looked for: hours by the name in the address.
SPANS = {"1": "hour", "24": "day", "168": "week", "720": "month"}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Jobs that need somebody for the same reason."""

    title: str
    why: str
    tone: str
    jobs: list[Job]
    act: Action | None
    more: str | None  # the whole list, where there is one

    @property
    def count(self) -> str:
        """How many there are, as far as was looked."""
        return f"{SHOWN}+" if len(self.jobs) > SHOWN else str(len(self.jobs))

    @property
    def shown(self) -> list[Job]:
        """Those for which there is room."""
        return self.jobs[:SHOWN]


def kinds_of(attention: Attention) -> list[Kind]:
    """The gravest first."""
    jobs = reverse("admin:jobs_job_changelist")
    overdue = settings.OVERDUE_JOB_SECONDS
    return [
        Kind(
            title="Unknown",
            why="An effect began and nobody knows whether it happened. Ask the system that was called, then say so.",
            tone="doubt",
            jobs=attention.unknown,
            act=ACTIONS["resolve"],
            more=f"{jobs}?{urlencode({'state': State.UNKNOWN})}",
        ),
        Kind(
            title="Partially done",
            why="The job failed after a part of it had taken effect. A redrive goes on from its finished steps.",
            tone="bad",
            jobs=attention.partially_done,
            act=ACTIONS["redrive"],
            more=f"{jobs}?{urlencode({'state': State.FAILED, 'error_code': 'partially-done'})}",
        ),
        Kind(
            title="Stuck: a lease is over",
            why="A worker stopped renewing, and no sweep has ended the attempt. Is the maintenance worker running, and beat?",
            tone="bad",
            jobs=attention.overdue_leases,
            act=None,
            more=f"{jobs}?{urlencode({'state': State.RUNNING})}",
        ),
        Kind(
            title="Stuck: due, and nobody takes it",
            why=f"Due for more than {overdue:g} seconds and not paused. Are there workers, and do they know the operation?",
            tone="bad",
            jobs=attention.overdue_jobs,
            act=ACTIONS["cancel"],
            more=f"{jobs}?{urlencode({'state': State.QUEUED})}",
        ),
        Kind(
            title="Failed for good, within a day",
            why="Every attempt failed, or the failure is permanent. Look at the error; a redrive runs it again.",
            tone="calm",
            jobs=attention.failed,
            act=ACTIONS["redrive"],
            more=f"{jobs}?{urlencode({'state': State.FAILED})}",
        ),
    ]


@requires("jobs.view_job")
def show_attention(request: HttpRequest) -> HttpResponse:
    """Each kind with its jobs, why they are here, and what to do."""
    kinds = kinds_of(needs_attention(limit=SHOWN + 1))
    return page(
        request,
        "attention.html",
        title="Needs attention",
        kinds=kinds,
        all_is_well=not any(kind.jobs for kind in kinds),
        may_operate=may(request, "jobs.operate_job"),
    )


@requires("jobs.view_job")
def show_errors(request: HttpRequest) -> HttpResponse:
    """Failures of the last hours by operation, code and cause; each leads to its jobs."""
    hours = request.GET.get("hours", "24")
    hours = hours if hours in SPANS else "24"
    since = timezone.now() - timedelta(hours=int(hours))
    grouped = errors_grouped(since=since)
    jobs = reverse("admin:jobs_job_changelist")
    lines = [
        (
            group,
            f"{jobs}?"
            + urlencode(
                {
                    name: value
                    for name, value in {
                        "operation": group.operation,
                        "error_code": group.code,
                        "error_cause": group.cause,
                    }.items()
                    if value
                }
            ),
        )
        for group in grouped.groups
    ]
    return page(
        request,
        "errors.html",
        title="Errors",
        lines=lines,
        is_complete=grouped.complete,
        hours=hours,
        spans=SPANS.items(),
    )
