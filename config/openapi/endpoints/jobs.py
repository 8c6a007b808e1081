"""Submitting and reading jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from config.openapi import examples
from config.openapi.endpoints.table import (
    ANSWERED_UNDER_KEY,
    BODY,
    KEYED,
    OF_THE_JOB,
    PROTECTED,
    Answer,
    Endpoint,
)
from jobs.api.query_strings import EventsQuery, JobQuery, ListQuery, NoQuery

if TYPE_CHECKING:
    from config.openapi.endpoints.table import Table

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
        answers={
            200: Answer(
                description="A page.",
                schema="JobPage",
                example=examples.JOB_PAGE,
                headers=("Link",),
            )
        },
        problems=PROTECTED,
    ),
    ("GET", "/v1/jobs/{job_id}"): Endpoint(
        id="readJob",
        tag="Jobs",
        summary="Read a job",
        description="Poll with `If-None-Match`, no more often than Retry-After says; there is none once news can no longer come.",
        headers=("If-None-Match",),
        query=JobQuery,
        answers={
            200: Answer(
                description="The job as it is now.",
                schema="Job",
                example=examples.JOB,
                headers=("ETag", "Retry-After"),
                links=OF_THE_JOB,
            ),
            304: Answer(description="The client has it already.", headers=("ETag", "Retry-After")),
        },
        problems=(*PROTECTED, "not-found"),
    ),
    ("GET", "/v1/jobs/{job_id}/events"): Endpoint(
        id="listEvents",
        tag="Jobs",
        summary="Read a job's history",
        description="Oldest first; without gaps in `seq`.",
        query=EventsQuery,
        answers={
            200: Answer(
                description="The events after `after`.", schema="EventList", example=examples.EVENT_LIST
            )
        },
        problems=(*PROTECTED, "not-found"),
    ),
}
