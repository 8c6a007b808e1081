"""Submitting and reading jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.query_strings import EventsQuery, JobQuery, ListQuery, NoQuery
from config.openapi import examples
from config.openapi.endpoints.table import (
    ANSWERED_UNDER_KEY,
    BODY,
    KEYED,
    OF_THE_JOB,
    PROTECTED,
    Answer,
    Endpoint,
    conditional,
)

if TYPE_CHECKING:
    from config.openapi.endpoints.table import Table

_EVENTS = (
    "Oldest first; without gaps in `seq`. Go on with `after=next_after`, or follow the Link header.\n\n"
    "With `Accept: text/event-stream` on the streams process (a job's `links.events`) it is a stream of server-sent "
    "events: first `retry:` with the milliseconds after which to come back, then of each event `id:` (its `seq`), "
    "`event:` (its `type`) and `data:` (the same object as in the list), once and in order, as they happen. A comment "
    "(`:`) every 15 seconds keeps a quiet stream open. It closes after the last event of a job that has ended; an "
    "`unknown` one has not. After a cut, `Last-Event-ID` goes on without a gap or a repeat. `limit` is not for streams. "
    "406 where no stream is served, with the address of the process that does. 503 where as many requests wait as may."
)

ENDPOINTS: Table = {
    ("POST", "/v1/jobs"): Endpoint(
        id="submitJob",
        tag="Jobs",
        summary="Submit a job",
        description=(
            "Accepted once for each Idempotency-Key; a repeat of the same request gets the stored answer, byte for byte, "
            "with `Idempotency-Replayed: true`. Two bodies are the same request if they are equal as JSON values: white space, "
            "the order of members, escapes and the spelling of numbers do not count. Refused before anything is stored: "
            "repeated members, NaN and Infinity, U+0000 and lone surrogates, numbers of over 300 digits or with an exponent "
            "beyond ±308, nesting over 32, and members that are not described here."
        ),
        headers=("Idempotency-Key", "Idempotency-TTL"),
        query=NoQuery,
        body="submission",
        body_example=examples.SUBMISSION,
        answers={
            202: Answer(
                description="Accepted: the job is queued. A replay shows it as it was then; follow `Location` for now.",
                schema="Job",
                example=examples.JOB,
                headers=("Location", "Retry-After", *ANSWERED_UNDER_KEY),
                links=(*OF_THE_JOB, "resolveJob", "readIdempotencyKey"),
            )
        },
        problems=(
            *PROTECTED,
            *BODY,
            *KEYED,
            "idempotency-key-missing",
            "unknown-operation",
            "duplicate-operation",
            "queue-full",
        ),
    ),
    ("GET", "/v1/jobs"): Endpoint(
        id="listJobs",
        tag="Jobs",
        summary="List jobs, newest first",
        description="Pages stay right while jobs arrive. Go on with `next_cursor`, or follow the Link header.",
        query=ListQuery,
        headers=("If-None-Match",),
        answers=conditional(
            Answer(description="A page.", schema="JobPage", example=examples.JOB_PAGE, headers=("Link",))
        ),
        problems=PROTECTED,
    ),
    ("GET", "/v1/jobs/{job_id}"): Endpoint(
        id="readJob",
        tag="Jobs",
        summary="Read a job",
        description="Poll with `If-None-Match`, no more often than Retry-After says; there is none once the job has ended.",
        headers=("If-None-Match",),
        query=JobQuery,
        answers=conditional(
            Answer(
                description="The job as it is now.",
                schema="Job",
                example=examples.JOB,
                headers=("Retry-After",),
                links=OF_THE_JOB,
            )
        ),
        problems=(*PROTECTED, "not-found"),
    ),
    ("GET", "/v1/jobs/{job_id}/events"): Endpoint(
        id="listEvents",
        tag="Jobs",
        summary="Read a job's history",
        description=_EVENTS,
        headers=("If-None-Match", "Last-Event-ID"),
        query=EventsQuery,
        answers={
            200: Answer(
                description="The events after `after`: a page of them, or the stream.",
                schema="EventList",
                example=examples.EVENT_LIST,
                other={
                    "text/event-stream": {
                        "type": "string",
                        "description": "UTF-8 lines of `id`, `event`, `data`, `retry` and comments (HTML, Server-sent events).",
                        "examples": [examples.EVENT_STREAM],
                    }
                },
                headers=("ETag-Of-JSON", "Cache-Control", "Link", "X-Accel-Buffering"),
            ),
            204: Answer(
                description="To a stream: the job has ended, and the client has every event. Browsers stop coming back.",
                headers=("Cache-Control", "X-Accel-Buffering"),
            ),
            304: Answer(
                description="To the list: the client has it already.",
                headers=("ETag", "Cache-Control", "Link"),
            ),
        },
        problems=(*PROTECTED, "not-found"),
    ),
}
