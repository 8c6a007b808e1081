"""Requests that change one job: with a key if the client likes, and refused where the job's state forbids it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.query_strings import NoQuery
from api.resolution import ResolutionForm
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

if TYPE_CHECKING:
    from config.openapi.endpoints.table import Table

_CHANGED = Answer(
    description="The job as the request left it.",
    schema="Job",
    example=examples.JOB,
    headers=(*ANSWERED_UNDER_KEY, "Retry-After"),
    links=OF_THE_JOB,
)
_PROBLEMS = (*PROTECTED, *BODY, *KEYED, "not-found", "illegal-state-transition")


def _change(id: str, summary: str, description: str, *problems: str, **more: Any) -> Endpoint:  # noqa: A002, ANN401
    return Endpoint(
        id=id,
        tag="Jobs",
        summary=summary,
        description=description,
        headers=("Idempotency-Key-Optional", "Idempotency-TTL"),
        query=NoQuery,
        answers={200: _CHANGED},
        problems=(*_PROBLEMS, *problems),
        **more,
    )


ENDPOINTS: Table = {
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
        "duplicate-operation",
    ),
    ("DELETE", "/v1/jobs/{job_id}/payload"): _change(
        "erasePayload",
        "Erase what a client gave and got",
        "Of a job that has ended: params, metadata, result, errors, and what steps, history and stored answers quote of them; "
        "ids, keys and states stay. A retry of its request, or of a cancel, redrive or resolve under a key, is told that it is "
        "gone. Twice: 200.",
    ),
    ("POST", "/v1/jobs/{job_id}/resolve"): _change(
        "resolveJob",
        "Say what an unknown outcome was",
        "Needs an API key with the scope admin. Names the step, its verdict, and where the job goes; stays in its history.",
        "forbidden",
        body=ResolutionForm,
        body_example=examples.RESOLUTION,
        body_rules={
            "if": {"properties": {"verdict": {"const": "not_done"}}},
            "then": {"properties": {"then": {"enum": ["fail", "queue"]}, "result": {"type": "null"}}},
        },
    ),
}
