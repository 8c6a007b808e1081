"""What answers look like, as JSON Schema 2020-12. Members may be added within v1: no schema here forbids more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.json_schema import PRINTABLE
from api.problem_catalogue import PROBLEMS, Key, Problem
from jobs.models import JobStep, Priority
from jobs.states import State

if TYPE_CHECKING:
    from collections.abc import Mapping

    Schema = Mapping[str, Any]


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: Mapping[str, Schema], *, optional: tuple[str, ...] = (), **more: object) -> Schema:
    """An object that has at least these members."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, **more}


def _list_of(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def _or_null(schema: Schema) -> Schema:
    kind = schema.get("type")
    return {**schema, "type": [kind, "null"]} if kind else {"anyOf": [schema, {"type": "null"}]}


_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_FLAG: Schema = {"type": "boolean"}
_INSTANT: Schema = {
    "type": "string",
    "format": "date-time",
    "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{3}Z$",
    "description": "UTC, in milliseconds.",
}
_PATH: Schema = {"type": "string", "format": "uri-reference"}
_ANY: Schema = {"description": "Any JSON value; numbers are exact."}
_STATE: Schema = {"type": "string", "enum": list(State)}
_HTTP_STATUS: Schema = {"type": "integer", "minimum": 100, "maximum": 599}

_ITEM: Schema = {"anyOf": [_ref("JsonValue"), {"type": "null"}]}
_JSON_VALUE: Schema = {
    "description": "Any value but null. Nested 32 deep at most; a number has up to 300 digits and an exponent within ±308.",
    "anyOf": [
        {"type": ["boolean", "number"]},
        {"type": "string", **PRINTABLE},
        {"type": "array", "items": _ITEM},
        {"type": "object", "propertyNames": PRINTABLE, "additionalProperties": _ITEM},
    ],
}

_JOB = _object(
    {
        "id": {"type": "string", "format": "uuid", "description": "UUIDv7; no secret."},
        "object": {"const": "job"},
        "operation": _TEXT,
        "state": _STATE,
        "params": {"type": ["object", "null"], "description": "As submitted; null once erased."},
        "metadata": {"type": "object", "additionalProperties": _TEXT},
        "attempt": {**_COUNT, "description": "How many attempts have begun: the fencing token."},
        "attempts_left": _COUNT,
        "progress": _or_null(_object({"done": _COUNT, "total": _COUNT, "message": _TEXT})),
        "result": _ANY,
        "error": _or_null(_ref("JobError")),
        "priority": {"type": "string", "enum": [priority.name.lower() for priority in Priority]},
        "created_at": _INSTANT,
        "run_at": _INSTANT,
        "started_at": _or_null(_INSTANT),
        "finished_at": _or_null(_INSTANT),
        "deadline": _or_null(_INSTANT),
        "cancel_requested_at": _or_null(_INSTANT),
        "concurrency_key": _or_null(_TEXT),
        "idempotency_key": _or_null(_TEXT),
        "artifacts": _list_of(_object({"name": _TEXT, "content_type": _TEXT, "size": _COUNT, "url": _PATH})),
        "effects": _list_of(_ref("Effect")),
        "links": _object(
            {"self": _PATH, "events": _PATH, "wait": _PATH, "cancel": _PATH}, optional=("wait",)
        ),
    },
    description="`unknown` has not ended: nobody can tell whether an effect happened, until a person says so.",
)

_EFFECT = _object(
    {
        "name": _TEXT,
        "state": {"type": "string", "enum": list(JobStep.State)},
        "key": {**_or_null(_TEXT), "description": "The idempotency key that the downstream was sent."},
    },
    description="What was or may have been done to the world.",
)

_EVENT = _object(
    {
        "seq": {"type": "integer", "minimum": 1},
        "type": _TEXT,
        "attempt": _COUNT,
        "data": {"type": "object"},
        "created_at": _INSTANT,
    }
)

_JSON_SCHEMA: Schema = {"type": "object", "description": "JSON Schema 2020-12."}
_SECONDS: Schema = {"type": "number", "minimum": 0}

_OPERATION = _object(
    {
        "object": {"const": "operation"},
        "name": _TEXT,
        "version": {"type": "integer", "minimum": 1, "description": "What a new job gets."},
        "versions": {
            **_list_of({"type": "integer", "minimum": 1}),
            "description": "Those under which jobs may still be about.",
        },
        "description": _TEXT,
        "params": _JSON_SCHEMA,
        "result": {**_JSON_SCHEMA, "description": "JSON Schema 2020-12. Members may be added within v1."},
        "limits": _object(
            {
                "timeout_seconds": {**_SECONDS, "description": "Of one attempt."},
                "max_body_bytes": _COUNT,
                "max_result_bytes": _COUNT,
                "max_run_at_seconds": {**_COUNT, "description": "How far ahead `run_at` may lie."},
            }
        ),
        "retry_policy": _object(
            {
                "max_attempts": _COUNT,
                "backoff": _object(
                    {"base_seconds": _SECONDS, "max_seconds": _SECONDS, "jitter": {"const": "full"}},
                    description="A random time, up to the base doubled with each retry, and the maximum.",
                ),
                "lease_seconds": {
                    **_SECONDS,
                    "description": "After which a job whose worker died is tried again.",
                },
            }
        ),
    }
)

_KEY = _object(
    {
        "object": {"const": "idempotency_key"},
        "key": _TEXT,
        "method": {**_or_null(_TEXT), "description": "Null once what the first request was is forgotten."},
        "path": _or_null(_PATH),
        "status": {**_HTTP_STATUS, "type": ["integer", "null"]},
        "first_seen_at": _INSTANT,
        "last_seen_at": {**_INSTANT, "description": "Approximate."},
        "replays": {**_COUNT, "description": "Approximate."},
        "expires_at": _INSTANT,
        "fingerprint_version": {"type": "integer"},
        "payload_erased_at": _or_null(_INSTANT),
        "resource": _or_null(_PATH),
        "resource_state": {"enum": [*State, None]},
    }
)

_POLICY = _object(
    {
        "key": _object(
            {
                "header": _TEXT,
                "syntax": {"enum": ["lenient", "strict"]},
                "forms": _list_of(_TEXT),
                "min_length": _COUNT,
                "max_length": _COUNT,
                "scope": _list_of(_TEXT),
                "required_on": _list_of(_TEXT),
                "optional_on": _TEXT,
                "ignored_on": _list_of(_TEXT),
            }
        ),
        "ttl": _object(
            {
                "header": _TEXT,
                "default_seconds": _COUNT,
                "min_seconds": _COUNT,
                "max_seconds": _COUNT,
                "ends": _TEXT,
            }
        ),
        "fingerprint": _object(
            {
                "version": {"type": "integer"},
                "covers": _list_of(_TEXT),
                "json_bodies": _TEXT,
                "other_bodies": _TEXT,
            }
        ),
        "stored": _object(
            {"statuses": _list_of(_TEXT), "headers": _list_of(_TEXT), "max_body_bytes": _COUNT}
        ),
        "answers": _object(
            {
                "replayed_header": _TEXT,
                "expires_header": _TEXT,
                "body_omitted_header": _TEXT,
                "mismatch_status": {"enum": [409, 422]},
                "in_progress_status": _HTTP_STATUS,
                "in_progress_wait_seconds": {"type": "number"},
                "erased_status": _HTTP_STATUS,
            }
        ),
    }
)

# --- Problems --------------------------------------------------------------------------------------------------------

_POINTER = {**_TEXT, "description": "A JSON pointer into the body (RFC 6901)."}
_FIELD_ERROR = _object(
    {
        "pointer": _POINTER,
        "parameter": {**_TEXT, "description": "The name of a query parameter or header."},
        "code": {**_TEXT, "examples": ["min_value"]},
        "detail": _TEXT,
    },
    optional=("pointer", "parameter"),
)

_PROBLEM = _object(
    {
        "type": {**_PATH, "description": "Where the problem is explained."},
        "title": _TEXT,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": _TEXT,
        "instance": {**_PATH, "description": "The path that was asked for, percent-encoded."},
        "code": {"type": "string", "enum": [slug for slug, problem in PROBLEMS.items() if problem.status]},
        "request_id": _TEXT,
        "retryable": {**_FLAG, "description": "Whether the same request can succeed later without a change."},
    },
    description="RFC 9457. Tell problems apart by `code`.",
)

_JOB_ERROR = _object(
    {
        "type": _PATH,
        "title": _TEXT,
        "detail": _TEXT,
        "code": {
            "type": "string",
            "enum": [slug for slug, problem in PROBLEMS.items() if not problem.status],
        },
        "retryable": {**_FLAG, "description": "Whether a new job can help, without doing anything twice."},
        "cause": {**_TEXT, "description": "The downstream's own code, such as `card_declined`."},
    },
    optional=("cause",),
    description="Why the job did not succeed: a problem document without a status.",
)

_RESOURCE = {**_or_null(_PATH), "description": "What the first request made."}
# Members beyond those of every problem, with an example of each; `?` marks those that may be missing.
MEMBERS: Mapping[str, Mapping[str, tuple[Schema, object]]] = {
    "validation-failed": {
        "errors?": (
            _list_of(_ref("FieldError")),
            [{"pointer": "/params/amount", "code": "min_value", "detail": "Too small."}],
        )
    },
    "idempotency-key-reused": {
        "mismatch": (
            {**_list_of(_POINTER), "description": "Where the bodies differ, to a depth of 2; no values."},
            ["/params/amount"],
        ),
        "first_request_at": (_INSTANT, "2026-11-22T01:02:03.456Z"),
        "resource": (_RESOURCE, "/v1/jobs/0199f3a4-7a3c-7000-8000-000000000000"),
    },
    "payload-erased": {"resource": (_RESOURCE, "/v1/jobs/0199f3a4-7a3c-7000-8000-000000000000")},
}

_EXPLANATION = _object(
    {
        "code": {"type": "string", "enum": list(PROBLEMS)},
        "title": _TEXT,
        "status": {**_HTTP_STATUS, "type": ["integer", "null"]},
        "retryable": _FLAG,
        "meaning": _TEXT,
        "advice": _TEXT,
        "key": _object({"use": {"enum": list(Key)}, "reason": _TEXT}),
    }
)


def problem_name(slug: str) -> str:
    """The component of this problem's schema."""
    return "".join(part.capitalize() for part in slug.split("-")) + "Problem"


def _problem(slug: str, problem: Problem) -> Schema:
    """What every problem has, with the values of this one, and its own members."""
    own = {name: schema for name, (schema, _) in MEMBERS.get(slug, {}).items()}
    told: dict[str, Schema] = {
        "code": {"const": slug},
        "title": {"const": problem.title},
        "retryable": {"const": problem.retryable},
    }
    properties = told | {name.removesuffix("?"): schema for name, schema in own.items()}
    optional = tuple(name.removesuffix("?") for name in own if name.endswith("?"))
    return {
        "allOf": [_ref("Problem"), _object(properties, optional=optional)],
        "description": problem.meaning,
    }


SCHEMAS: Mapping[str, Schema] = {
    "Job": _JOB,
    "JobPage": _object({"data": _list_of(_ref("Job")), "next_cursor": _or_null(_TEXT)}),
    "Effect": _EFFECT,
    "Event": _EVENT,
    "EventList": _object(
        {
            "data": _list_of(_ref("Event")),
            "next_after": {
                **_or_null({"type": "integer", "minimum": 1}),
                "description": "Where the next page begins (`after`); null where there is no more for now.",
            },
        }
    ),
    "Operation": _OPERATION,
    "OperationList": _object({"data": _list_of(_ref("Operation"))}),
    "IdempotencyKey": _KEY,
    "Receipt": _object(
        {"id": _TEXT, "first": {**_FLAG, "description": "Whether this delivery was the one acted upon."}}
    ),
    "Policy": _POLICY,
    "Readiness": _object(
        {
            "status": {"enum": ["ready", "degraded"]},
            "details": _object({"database": _TEXT, "broker": _TEXT, "migrations": _TEXT}),
        },
        optional=("details",),
    ),
    "Document": {"type": "object", "description": "An OpenAPI document."},
    "FieldError": _FIELD_ERROR,
    "JsonValue": _JSON_VALUE,
    "Problem": _PROBLEM,
    "JobError": _JOB_ERROR,
    "ProblemExplanation": _EXPLANATION,
    **{problem_name(slug): _problem(slug, problem) for slug, problem in PROBLEMS.items() if problem.status},
}
