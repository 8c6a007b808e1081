"""A job's page: its history, its facts and what can be done."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse

from jobs.models import JobStep
from jobs.payloads import decode_payload
from jobs.states import State
from operators.admin.action_page import actions_for
from operators.admin.page_base import may, render_page
from operators.job_detail import load_job_detail
from operators.masking import format_payload, format_value, mask
from operators.timeline import build_timeline, describe_outcome, format_duration

if TYPE_CHECKING:
    from jobs.models import Job, JobAttempt
    from operators.job_detail import JobDetail


def show_job(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """Show the job with its history, its payload with masked secrets, and the actions that its state allows."""
    detail = load_job_detail(job_id)
    if detail is None:
        raise Http404(f"Job {job_id} does not exist. Jobs are deleted after JOB_RETENTION_SECONDS.")
    job = detail.job
    base_url = settings.PUBLIC_BASE_URL or f"{request.scheme}://{request.get_host()}"
    return render_page(
        request,
        "job_page.html",
        title=f"{job.operation} {job.id}",
        job=job,
        record=detail.record,
        actions=actions_for(job, detail.record) if may(request, "jobs.operate_job") else [],
        timeline=build_timeline(detail),
        error=_masked_error(job.error),
        is_unknown=job.state == State.UNKNOWN,
        open_effects=[step for step in detail.steps if step.state == JobStep.State.STARTED],
        attempts=[(attempt, *_attempt_cells(attempt, detail)) for attempt in detail.attempts],
        steps=[(step, format_payload(step.result)) for step in detail.steps],
        events=[(event, _event_data(event.data)) for event in detail.events],
        params=format_payload(job.params),
        result=format_payload(job.result),
        metadata=format_value(job.metadata) if job.metadata else None,
        progress=format_value(job.progress) if job.progress else None,
        commands=_shell_commands(job, base_url),
    )


def _attempt_cells(attempt: JobAttempt, detail: JobDetail) -> tuple[str, str, str]:
    """Return the attempt's duration, outcome and error."""
    error = _masked_error(attempt.error)
    text = f"{error.get('cause') or error.get('code')}: {error.get('detail')}" if error else ""
    duration = format_duration((attempt.ended_at or detail.now) - attempt.started_at)
    return duration, describe_outcome(attempt)[1], text


def _event_data(data: dict[str, Any]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in mask(data).items())


def _masked_error(payload: bytes | memoryview | None) -> dict[str, Any] | None:
    if payload is None:
        return None
    error = mask(decode_payload(payload))
    return error if isinstance(error, dict) else {"detail": str(error)}


def _shell_commands(job: Job, base_url: str) -> list[tuple[str, str]]:
    """Return titles and shell commands that read the job from the API and inspect the workers.

    They hold no credential: the operator's shell expands SEMEL_API_KEY.
    """
    curl = 'curl -sS -H "Authorization: Bearer $SEMEL_API_KEY"'
    address = f"{base_url}/v1/jobs/{job.id}"
    # A lease names host and process; Celery's node is worker@host (devstack/services.py, docker-compose.yml).
    host = job.worker.rpartition(":")[0] if job.worker else ""
    node = f" -d {shlex.quote(f'worker@{host}')}" if host else ""
    return [
        (f"Read the job (with an API key of {job.tenant.name}, mode {job.mode})", f"{curl} {shlex.quote(address)}"),
        ("Read its events", f"{curl} {shlex.quote(f'{address}/events')}"),
        ("List the running tasks; `args` holds the job id", f"celery -A config inspect active{node}"),
        ("Show the statistics of the workers", f"celery -A config inspect stats{node}"),
    ]
