"""A job's page: what happened, what is known, what can be done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.http import Http404

from jobs.models import JobStep
from jobs.payloads import decode_payload
from jobs.states import State
from operators.admin.action_buttons import actions_for
from operators.admin.masking import masked, shown, shown_value
from operators.admin.pages import may, page, requires
from operators.admin.terminal_commands import command_lines
from operators.admin.timeline import lasted, timeline_of
from operators.inspection import examine_job

if TYPE_CHECKING:
    from uuid import UUID

    from django.http import HttpRequest, HttpResponse

    from jobs.models import JobAttempt, JobEvent
    from operators.inspection import Examined


@requires("jobs.view_job")
def show_job(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """All that is known of the job, without its secrets."""
    examined = examine_job(job_id)
    if examined is None:
        raise Http404(f"There is no job {job_id}. Jobs are deleted some time after their end.")
    job = examined.job
    base_url = settings.PUBLIC_BASE_URL or f"{request.scheme}://{request.get_host()}"
    return page(
        request,
        "job_page.html",
        title=f"{job.operation} {job.id}",
        job=job,
        record=examined.record,
        actions=actions_for(job, examined.record) if may(request, "jobs.operate_job") else [],
        timeline=timeline_of(examined),
        error=_problem(job.error),
        is_unknown=job.state == State.UNKNOWN,
        in_doubt=[step for step in examined.steps if step.state == JobStep.State.STARTED],
        attempts=[_attempt(attempt, examined) for attempt in examined.attempts],
        steps=[(step, shown(step.result)) for step in examined.steps],
        events=[_event(event) for event in examined.events],
        params=shown(job.params),
        result=shown(job.result),
        metadata=shown_value(job.metadata) if job.metadata else None,
        progress=shown_value(job.progress) if job.progress else None,
        commands=command_lines(job, base_url=base_url),
    )


@dataclass(frozen=True)
class _Line:
    """A row of history, ready to be read."""

    row: JobAttempt | JobEvent
    said: str
    lasted: str = ""


def _attempt(attempt: JobAttempt, examined: Examined) -> _Line:
    error = _problem(attempt.error)
    said = f"{error.get('cause') or error.get('code')}: {error.get('detail')}" if error else ""
    return _Line(attempt, said, lasted((attempt.ended_at or examined.now) - attempt.started_at))


def _event(event: JobEvent) -> _Line:
    return _Line(event, "; ".join(f"{name}: {value}" for name, value in masked(event.data).items()))


def _problem(encoded: bytes | memoryview | None) -> dict[str, Any] | None:
    """An error's document, masked."""
    if encoded is None:
        return None
    document = masked(decode_payload(encoded))
    return document if isinstance(document, dict) else {"detail": str(document)}
