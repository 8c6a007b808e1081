"""Read and render responses for many waiting requests at once. Runs in the reader's thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import orjson

from api.conditional_requests import REVALIDATED, entity_tag
from api.job_documents import event_document, job_document, poll_after
from jobs.queries.watch import events_after
from jobs.selectors import jobs_by_id, outputs_of

if TYPE_CHECKING:
    from jobs.models import Job, JobEvent
    from jobs.selectors import JobOutputs

# Events of one job in one piece: the most that a client that reads slowly holds in memory.
EVENTS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class RenderedJob:
    body: bytes
    tag: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RenderedEvents:
    """Events in the form of an event stream (HTML, "Server-sent events"), and the number of the last."""

    body: bytes
    last: int


def render_jobs(job_ids: Sequence[UUID]) -> dict[UUID, RenderedJob]:
    """Return the current document of each job. Three statements; the gate has checked whose jobs they are."""
    jobs = jobs_by_id(job_ids)
    outputs = outputs_of(jobs)
    return {job.id: _render_job(job, outputs[job.id]) for job in jobs}


def render_events(positions: Sequence[tuple[UUID, int]]) -> dict[tuple[UUID, int], RenderedEvents]:
    """Return the next events after each job and number, if there are any. One statement."""
    return {
        position: RenderedEvents(b"".join(map(_render_event, events)), events[-1].seq)
        for position, events in events_after(positions, limit=EVENTS_AT_ONCE).items()
        if events
    }


def _render_job(job: Job, outputs: JobOutputs) -> RenderedJob:
    body = orjson.dumps(job_document(job, outputs))
    return RenderedJob(body, entity_tag(body), REVALIDATED | poll_after(job))


def _render_event(event: JobEvent) -> bytes:
    # The JSON has no line breaks, and neither has the number or the type.
    data = orjson.dumps(event_document(event))
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.seq, event.type.encode(), data)
