"""Every endpoint and what it can answer: the one place to add a line to when an address is added.

A test holds it to the addresses that exist, and to the catalogue of problems.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from config.openapi import examples
from jobs.api.query_strings import EventsQuery, JobQuery, ListQuery, NoQuery
from jobs.api.resolution import ResolutionForm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rest_framework.serializers import Serializer


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer that is no problem."""

    description: str
    # The component that its JSON is; None where there is no body.
    schema: str | None = None
    example: object = None
    # Other content than JSON by media type, as JSON Schema.
    other: Mapping[str, Any] | None = None
    # Components of `headers.RESPONSE`.
    headers: tuple[str, ...] = ()
    # Endpoints by their ids where the client goes on, with what is in the answer.
    links: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One method of one address."""

    id: str
    tag: str
    summary: str
    answers: Mapping[int, Answer]
    # Slugs of the catalogue; statuses, titles and headers follow from them.
    problems: tuple[str, ...]
    description: str = ""
    query: type[Serializer[Any]] | None = None
    # A form, or "submission": one form for each operation.
    body: type[Serializer[Any]] | Literal["submission"] | None = None
    body_example: object = None
    # What a form checks between its members, as JSON Schema.
    body_rules: Mapping[str, Any] = field(default_factory=dict)
    # Components of `headers.REQUEST`.
    headers: tuple[str, ...] = ()
    # Whether it needs no API key.
    is_public: bool = False


# What any request can run into (a Host header that is not ours fails the validation), and any that needs an API key.
_ALWAYS = ("validation-failed", "headers-too-large", "internal-error")
_PROTECTED = (*_ALWAYS, "unauthenticated", "rate-limited", "not-acceptable", "service-unavailable")
# What can be wrong with a body, and with a key.
_BODY = ("malformed-json", "unsupported-media-type", "payload-too-large")
_KEYED = (
    "idempotency-key-invalid",
    "idempotency-key-reused",
    "idempotency-request-in-progress",
    "payload-erased",
)
_KEY_HEADERS = ("Idempotency-Key-Optional", "Idempotency-TTL")
_ANSWERED_UNDER_KEY = ("Idempotency-Replayed", "Idempotency-Expires", "Idempotency-Body-Omitted")
_OF_THE_JOB = ("readJob", "listEvents", "cancelJob", "redriveJob")


def _change(id: str, summary: str, description: str, **extra: Any) -> Endpoint:  # noqa: A002, ANN401
    """A request that changes one job: with a key if the client likes, and refused where the job's state forbids it."""
    changed = Answer(
        description="The job as the request left it.",
        schema="Job",
        example=examples.JOB,
        headers=(*_ANSWERED_UNDER_KEY, "Retry-After"),
        links=_OF_THE_JOB,
    )
    problems = (*_PROTECTED, *_BODY, *_KEYED, "not-found", "illegal-state-transition")
    return Endpoint(
        id=id,
        tag="Jobs",
        summary=summary,
        description=description,
        headers=_KEY_HEADERS,
        query=NoQuery,
        answers={200: changed},
        problems=(*problems, *extra.pop("problems", ())),
        **extra,
    )


ENDPOINTS: Mapping[tuple[str, str], Endpoint] = {
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
                headers=("Location", "Retry-After", *_ANSWERED_UNDER_KEY),
                links=(*_OF_THE_JOB, "resolveJob", "readIdempotencyKey"),
            )
        },
        problems=(
            *_PROTECTED,
            *_BODY,
            *_KEYED,
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
                links=(),
            )
        },
        problems=_PROTECTED,
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
                links=_OF_THE_JOB,
            ),
            304: Answer(description="The client has it already.", headers=("ETag", "Retry-After")),
        },
        problems=(*_PROTECTED, "not-found"),
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
        problems=(*_PROTECTED, "not-found"),
    ),
    ("POST", "/v1/jobs/{job_id}/cancel"): _change(
        "cancelJob",
        "Cancel a job",
        "Canceled at once where nothing has been done; a running job only learns of the wish, and goes on if it has done "
        "what it cannot undo. Canceling a canceled job: 200.",
    ),
    ("POST", "/v1/jobs/{job_id}/redrive"): _change(
        "redriveJob",
        "Queue a failed or canceled job again",
        "Finished steps stay finished. 410 where its payload was erased.",
        problems=("duplicate-operation",),
    ),
    ("DELETE", "/v1/jobs/{job_id}/payload"): _change(
        "erasePayload",
        "Erase what a client gave and got",
        "Of a job that has ended: params, result, errors and what steps and history quote of them; ids, key and states stay. A "
        "retry of the first request is told that it is gone. Twice: 200.",
    ),
    ("POST", "/v1/jobs/{job_id}/resolve"): _change(
        "resolveJob",
        "Say what an unknown outcome was",
        "Needs an API key with the scope admin. Names the step, its verdict, and where the job goes; stays in its history.",
        body=ResolutionForm,
        body_example=examples.RESOLUTION,
        body_rules={
            "if": {"properties": {"verdict": {"const": "not_done"}}},
            "then": {"properties": {"then": {"enum": ["fail", "queue"]}, "result": {"type": "null"}}},
        },
        problems=("forbidden",),
    ),
    ("GET", "/v1/idempotency-keys/{key}"): Endpoint(
        id="readIdempotencyKey",
        tag="Idempotency",
        summary="Read what a key stands for",
        description="Of the tenant, in the API key's mode. 404: the key is free.",
        query=NoQuery,
        answers={
            200: Answer(description="What the key stands for.", schema="IdempotencyKey", example=examples.KEY)
        },
        problems=(*_PROTECTED, "not-found"),
    ),
    ("GET", "/.well-known/idempotency"): Endpoint(
        id="readPolicy",
        tag="Idempotency",
        summary="Read the policy of this deployment, for machines",
        is_public=True,
        answers={
            200: Answer(description="The values in force.", schema="Policy", headers=("Cache-Control",))
        },
        problems=_ALWAYS,
    ),
    ("GET", "/problems/{slug}"): Endpoint(
        id="explainProblem",
        tag="Service",
        summary="Read what a problem means and what to do",
        description="A page where the Accept header prefers text/html.",
        is_public=True,
        answers={
            200: Answer(
                description="The problem explained.",
                schema="ProblemExplanation",
                other={"text/html": {"type": "string"}},
                headers=("Cache-Control", "Vary", "Content-Security-Policy"),
            )
        },
        problems=(*_ALWAYS, "not-found"),
    ),
    ("GET", "/livez"): Endpoint(
        id="isAlive",
        tag="Service",
        summary="Whether the process is up",
        is_public=True,
        answers={204: Answer(description="It is.", headers=("Cache-Control",))},
        problems=_ALWAYS,
    ),
    ("GET", "/readyz"): Endpoint(
        id="isReady",
        tag="Service",
        summary="Whether requests can be accepted",
        description="`degraded`: they can, but the broker is away, so that jobs start later.",
        is_public=True,
        answers={
            200: Answer(
                description="They can.",
                schema="Readiness",
                example={"status": "ready"},
                headers=("Cache-Control",),
            )
        },
        problems=(*_ALWAYS, "service-unavailable"),
    ),
    ("GET", "/schema"): Endpoint(
        id="readSchema",
        tag="Service",
        summary="Read this description",
        description="`?format=json` or `?format=yaml` decides, else the Accept header; JSON by default.",
        is_public=True,
        query=None,
        answers={
            200: Answer(
                description="OpenAPI 3.1.",
                schema="Document",
                other={"application/yaml": {"type": "string"}},
                headers=("Cache-Control", "Vary"),
            )
        },
        problems=_ALWAYS,
    ),
    ("GET", "/docs"): Endpoint(
        id="browse",
        tag="Service",
        summary="Browse this description",
        description="A page that loads nothing from other hosts.",
        is_public=True,
        answers={
            200: Answer(
                description="A page.",
                other={"text/html": {"type": "string"}},
                headers=("Cache-Control", "Content-Security-Policy"),
            )
        },
        problems=_ALWAYS,
    ),
}

# What no endpoint can answer: it stands for a method or an address that none of them has.
ELSEWHERE = ("method-not-allowed",)
