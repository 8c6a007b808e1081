"""What waiters are sent, read for many of them at once (streams/batch.py) and made into bytes in the thread that read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from api.conditional_requests import REVALIDATED, entity_tag
from api.job_documents import event_document, job_document, poll_after
from jobs.queries.watch import events_beyond
from jobs.selectors import jobs_by_id, outputs_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from jobs.models import Job, JobEvent
    from jobs.selectors import JobOutputs

# Of one job, in one piece: what a client that reads slowly may have in our memory at once.
EVENTS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class RenderedJob:
    """The answer's body and the headers that go with it."""

    body: bytes
    tag: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RenderedEvents:
    """Some events as an event stream has them (HTML, "Server-sent events"), and the number of the last."""

    body: bytes
    last: int


def render_jobs(job_ids: Sequence[UUID]) -> dict[UUID, RenderedJob]:
    """Each job as it is now. Three statements; whose they are was checked when their requests came in."""
    jobs = jobs_by_id(job_ids)
    made = outputs_of(jobs)
    return {job.id: _render(job, made[job.id]) for job in jobs}


def render_events(asked: Sequence[tuple[UUID, int]]) -> dict[tuple[UUID, int], RenderedEvents]:
    """For each job and number the events that come next; nothing where there is none. One statement."""
    found = events_beyond(asked, limit=EVENTS_AT_ONCE)
    return {
        key: RenderedEvents(b"".join(map(_line, events)), events[-1].seq)
        for key, events in found.items()
        if events
    }


def _render(job: Job, made: JobOutputs) -> RenderedJob:
    body = orjson.dumps(job_document(job, made))
    return RenderedJob(body, entity_tag(body), REVALIDATED | poll_after(job))


def _line(event: JobEvent) -> bytes:
    """JSON has no line breaks of its own, and neither number nor name can have one."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (
        event.seq,
        event.type.encode(),
        orjson.dumps(event_document(event)),
    )
