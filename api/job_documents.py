"""Build the JSON documents of jobs and events for clients."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
from django.conf import settings

from api.problem_catalogue import PROBLEMS
from jobs.durations import typical_durations
from jobs.ids import parse_job_resource
from jobs.models import Priority
from jobs.payloads import decode_payload, payload_json
from jobs.selectors import JobOutputs
from jobs.states import State

if TYPE_CHECKING:
    from jobs.models import Job, JobEvent
    from jobs.queries.read import ArtifactSummary


_NOTHING = JobOutputs([], [])


def job_document(job: Job, outputs: JobOutputs = _NOTHING) -> dict[str, Any]:
    """Return the job's document. Params and result are the stored JSON text, so that every number stays exact."""
    self_link = f"/v1/jobs/{job.id}"
    # Waiting is done by the streams process; without STREAMS_URL the link is relative.
    streams_link = f"{settings.STREAMS_URL}{self_link}"
    links = {
        "self": self_link,
        "events": f"{streams_link}/events",
        "wait": f"{streams_link}?wait=30",
        "cancel": f"{self_link}/cancel",
    }
    return {
        "id": str(job.id),
        "object": "job",
        "operation": job.operation,
        "state": job.state,
        "params": _json(job.params),
        "metadata": job.metadata,
        "attempt": job.attempt,
        "attempts_left": job.attempts_left,
        "progress": job.progress,
        "result": _json(job.result),
        "error": _error_document(job.error),
        "priority": Priority(job.priority).name.lower(),
        "created_at": format_time(job.created_at),
        "run_at": format_time(job.run_at),
        "started_at": format_time(job.started_at),
        "finished_at": format_time(job.finished_at),
        "deadline": format_time(job.deadline_at),
        "cancel_requested_at": format_time(job.cancel_requested_at),
        "concurrency_key": job.concurrency_key,
        "idempotency_key": job.idempotency_key,
        "artifacts": [_artifact_document(artifact) for artifact in outputs.artifacts],
        "effects": [
            {"name": effect.name, "state": effect.state, "key": effect.downstream_key} for effect in outputs.effects
        ],
        "links": links,
    }


def _error_document(payload: bytes | memoryview | None) -> dict[str, Any] | None:
    """Return the problem document of a stored error, completed from the catalogue."""
    if payload is None:
        return None
    stored = decode_payload(payload)
    problem = PROBLEMS[stored["code"]]
    return {"type": f"/problems/{stored['code']}", "title": problem.title, "retryable": problem.retryable, **stored}


def _artifact_document(artifact: ArtifactSummary) -> dict[str, Any]:
    return {
        "name": artifact.name,
        "content_type": artifact.content_type,
        "size": artifact.size,
        "url": f"/v1/jobs/{artifact.job_id}/artifacts/{artifact.name}",
    }


def event_document(event: JobEvent) -> dict[str, Any]:
    """Return the document of one event."""
    return {
        "seq": event.seq,
        "type": event.type,
        "attempt": event.attempt,
        "data": event.data,
        "created_at": format_time(event.created_at),
    }


# A client that waits much longer could miss a cancel or a redrive by another client.
_POLL_AFTER_MAX_SECONDS = 60


def poll_after(job: Job) -> dict[str, str]:
    """Return the header `Retry-After` for a job that has not ended.

    Its typical duration minus the time since its start, 1 to 60 s.

    A job in `unknown` has not ended: it waits for an operator or a provider event.
    """
    state = State(job.state)
    if state.is_terminal:
        return {}
    if state is State.UNKNOWN:
        return {"Retry-After": str(_POLL_AFTER_MAX_SECONDS)}
    now = datetime.now(UTC)
    starts_at = job.started_at if state == State.RUNNING and job.started_at else max(now, job.run_at)
    left = (starts_at - now).total_seconds() + typical_durations.seconds_of(job)
    return {"Retry-After": str(min(max(1, math.ceil(left)), _POLL_AFTER_MAX_SECONDS))}


def resource_path(resource: str | None) -> str | None:
    """Return the path of the job that an idempotency record names."""
    job_id = parse_job_resource(resource)
    return None if job_id is None else f"/v1/jobs/{job_id}"


def format_time(at: datetime | None) -> str | None:
    """Return RFC 3339 in UTC with milliseconds and `Z`."""
    return None if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(encoded: bytes | memoryview | None) -> orjson.Fragment | None:
    return None if encoded is None else orjson.Fragment(payload_json(encoded))
