"""An endpoint of the table as an OpenAPI operation."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from django.conf import settings

from api.problem_catalogue import PROBLEMS
from api.problems import CONTENT_TYPE
from config.openapi.endpoints import ENDPOINTS
from config.openapi.examples import JOB_ID
from config.openapi.headers import NAMES, REQUEST, RESPONSE
from config.openapi.schemas import MEMBERS, problem_name
from jobs.operations import ARTIFACT_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from config.openapi.endpoints.table import Answer, Endpoint

JSON = "application/json"
SECURITY_SCHEME = "apiKey"
_PLACES: Mapping[str, Mapping[str, Any]] = {
    "job_id": {"schema": {"type": "string", "format": "uuid"}, "example": JOB_ID},
    "key": {
        "schema": {"type": "string", "minLength": 1},
        "description": "The key itself, percent-encoded, without the quotes of its quoted form.",
        "example": "order-1001",
    },
    "source": {"schema": {"type": "string", "pattern": "^[-a-zA-Z0-9_]+$"}, "example": "sandbox"},
    "name": {
        "schema": {"type": "string", "pattern": f"^{ARTIFACT_NAME.pattern}$"},
        "description": "The artifact's name.",
        "example": "report.csv",
    },
    "slug": {"schema": {"type": "string", "enum": list(PROBLEMS)}, "example": "not-found"},
}
# Headers that a problem has, by its slug.
_PROBLEM_HEADERS: Mapping[str, tuple[str, ...]] = {
    "unauthenticated": ("WWW-Authenticate",),
    "method-not-allowed": ("Allow",),
    "idempotency-key-reused": ("X-Should-Retry", "Stripe-Should-Retry"),
    # Kept under the key, where one was sent.
    "illegal-state-transition": ("Idempotency-Replayed", "Idempotency-Expires"),
    "idempotency-request-in-progress": ("Retry-After",),
    "range-not-satisfiable": ("Content-Range-Unsatisfied", "Accept-Ranges"),
    "rate-limited": ("Retry-After",),
    "queue-full": ("Retry-After",),
    "service-unavailable": ("Retry-After",),
}


def describe(
    endpoint: Endpoint, path: str, *, query: Sequence[Mapping[str, Any]], body: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The operation. `query` and `body` are what its forms say."""
    operation: dict[str, Any] = {
        "operationId": endpoint.id,
        "tags": [endpoint.tag],
        "summary": endpoint.summary,
        "description": endpoint.description or endpoint.summary,
        "parameters": [*_parameters(endpoint, path), *query],
        "security": [] if endpoint.is_public else [{SECURITY_SCHEME: []}],
        "responses": {
            **{str(status): _answer(answer) for status, answer in endpoint.answers.items()},
            **problem_responses(endpoint.problems),
        },
    }
    if body is not None:
        media = {"schema": body, "examples": {"example": {"value": endpoint.body_example}}}
        operation["requestBody"] = {"required": True, "content": {JSON: media}}
    return operation


def problem_responses(slugs: Iterable[str]) -> dict[str, Any]:
    """One response for each status that these problems have."""
    by_status: dict[int, list[str]] = defaultdict(list)
    for slug in slugs:
        by_status[_status(slug)].append(slug)
    return {str(status): _problems(by_status[status]) for status in sorted(by_status)}


def problem_example(slug: str) -> dict[str, Any]:
    """A document of this problem."""
    problem = PROBLEMS[slug]
    own = {name.removesuffix("?"): example for name, (_, example) in MEMBERS.get(slug, {}).items()}
    return {
        "type": f"/problems/{slug}",
        "title": problem.title,
        "status": _status(slug),
        "detail": problem.title,
        "instance": "/v1/jobs",
        "code": slug,
        "request_id": "0199f3a4-7a3c-7000-8000-0000000000ff",
        "retryable": problem.retryable,
        **own,
    }


def _status(slug: str) -> int:
    if slug == "idempotency-key-reused":
        return int(settings.IDEMPOTENCY_MISMATCH_STATUS)
    return PROBLEMS[slug].status or 500


def _problems(slugs: Sequence[str]) -> dict[str, Any]:
    names = dict.fromkeys(problem_name(slug) for slug in slugs)
    refs = [{"$ref": f"#/components/schemas/{name}"} for name in names]
    return {
        "description": " ".join(f"`{slug}`: {PROBLEMS[slug].title}" for slug in slugs),
        "headers": _headers(name for slug in slugs for name in _PROBLEM_HEADERS.get(slug, ()))
        | _headers(f"{name}-Required" for name in _always(slugs)),
        "content": {
            CONTENT_TYPE: {
                "schema": refs[0] if len(refs) == 1 else {"oneOf": refs},
                "examples": {slug: _ref("examples", slug) for slug in slugs},
            }
        },
    }


def _always(slugs: Sequence[str]) -> set[str]:
    """The headers that stand on each of these problems, where one may also be missing elsewhere."""
    own = [set(_PROBLEM_HEADERS.get(slug, ())) for slug in slugs]
    return {name for name in set.intersection(*own) if f"{name}-Required" in RESPONSE}


def _parameters(endpoint: Endpoint, path: str) -> list[Mapping[str, Any]]:
    places = [
        {"name": name, "in": "path", "required": True, **_PLACES[name]}
        for name in re.findall(r"{(\w+)}", path)
    ]
    return [*places, *(_ref("parameters", name) for name in (*endpoint.headers, "X-Request-Id"))]


def _answer(answer: Answer) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.description, "headers": _headers(answer.headers)}
    content: dict[str, Any] = {media: {"schema": schema} for media, schema in (answer.other or {}).items()}
    if answer.schema:
        example = {} if answer.example is None else {"examples": {"example": {"value": answer.example}}}
        content[JSON] = {"schema": _ref("schemas", answer.schema), **example}
    if content:
        described["content"] = content
    if answer.links:
        described["links"] = {name: _link(name) for name in answer.links}
    return described


def _link(operation: str) -> dict[str, Any]:
    """How the client goes on from an answer that is a job."""
    [path] = {path for (_, path), endpoint in ENDPOINTS.items() if endpoint.id == operation}
    known = {"job_id": "$response.body#/id", "key": "$response.body#/idempotency_key"}
    return {
        "operationId": operation,
        "parameters": {f"path.{name}": known[name] for name in re.findall(r"{(\w+)}", path)},
    }


def _headers(names: Iterable[str]) -> dict[str, Any]:
    return {NAMES.get(name, name): _ref("headers", name) for name in ("X-Request-Id", *names)}


def _ref(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}


def components() -> dict[str, Mapping[str, Any]]:
    """What operations refer to, but for schemas."""
    examples = {
        slug: {"summary": problem.title, "value": problem_example(slug)}
        for slug, problem in PROBLEMS.items()
        if problem.status
    }
    return {
        "headers": RESPONSE,
        "parameters": REQUEST,
        "examples": examples,
        "securitySchemes": {
            SECURITY_SCHEME: {
                "type": "http",
                "scheme": "bearer",
                "description": "`Authorization: Bearer <api key>`: of a tenant, in live or test mode.",
            }
        },
    }
