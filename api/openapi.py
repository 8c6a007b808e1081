"""The OpenAPI document: `openapi.yaml`, with the problem catalogue and the deployment's operations filled in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import yaml
from django.conf import settings

from api.json_schema import schema_of_params
from api.problem_catalogue import PROBLEMS
from api.problems import CONTENT_TYPE
from jobs.registry import current_operation, operations

if TYPE_CHECKING:
    from jobs.operations import Operation

    Json = dict[str, Any]

FILE = Path(__file__).with_name("openapi.yaml")


@cache
def document() -> Mapping[str, Any]:
    """Return the whole document. It is built at the first call, so that no process pays for it when it starts."""
    contract: Json = yaml.load(FILE.read_bytes(), Loader=yaml.CSafeLoader)
    if settings.PUBLIC_BASE_URL:
        contract["servers"] = [{"url": settings.PUBLIC_BASE_URL}]
    _describe_problems(contract["components"])
    _fill_responses(contract)
    _fill_submission(contract)
    # A copy without shared parts: the YAML renderer would write them as aliases.
    copy: Json = orjson.loads(orjson.dumps(contract))
    return copy


def _describe_problems(components: Json) -> None:
    """Add a schema and an example for each problem, and the slugs to the enums."""
    schemas, examples = components["schemas"], components["examples"]
    answered = {slug: problem for slug, problem in PROBLEMS.items() if problem.status}
    schemas["Problem"]["properties"]["code"]["enum"] = list(answered)
    schemas["JobError"]["properties"]["code"]["enum"] = [slug for slug in PROBLEMS if slug not in answered]
    schemas["ProblemExplanation"]["properties"]["code"]["enum"] = list(PROBLEMS)
    components["parameters"]["slug"]["schema"]["enum"] = list(PROBLEMS)
    for slug, problem in answered.items():
        values = {"code": slug, "title": problem.title, "retryable": problem.retryable}
        own = schemas.get(_schema_name(slug), {})
        consts = {name: {"const": value} for name, value in values.items()}
        members = {
            "type": "object",
            "properties": consts | own.get("properties", {}),
            "required": [*values, *own.get("required", ())],
        }
        schemas[_schema_name(slug)] = {
            "allOf": [{"$ref": "#/components/schemas/Problem"}, members],
            "description": problem.meaning,
        }
        example = {
            **values,
            "type": f"/problems/{slug}",
            "status": _status(slug),
            "detail": problem.title,
            "instance": "/v1/jobs",
            "request_id": "0199f3a4-7a3c-7000-8000-0000000000ff",
            **examples.get(slug, {}).get("value", {}),
        }
        examples[slug] = {"summary": problem.title, "value": example}


def _fill_responses(contract: Json) -> None:
    """Turn the `x-problems` of each operation into one response for each status."""
    headers = contract.pop("x-problem-headers")
    del contract["x-problem-sets"]
    for item in contract["paths"].values():
        for operation in item.values():
            by_status = defaultdict(list)
            for slug in _flatten(operation.pop("x-problems")):
                by_status[_status(slug)].append(slug)
            for status in sorted(by_status):
                operation["responses"][str(status)] = _response(by_status[status], headers)


def _response(slugs: list[str], headers: Mapping[str, Json]) -> Json:
    schemas = [{"$ref": f"#/components/schemas/{_schema_name(slug)}"} for slug in slugs]
    examples = {slug: {"$ref": f"#/components/examples/{slug}"} for slug in slugs}
    sent = {"X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"}}
    for slug in slugs:
        sent |= headers.get(slug, {})
    return {
        "description": " ".join(f"`{slug}`: {PROBLEMS[slug].title}" for slug in slugs),
        "headers": sent,
        "content": {CONTENT_TYPE: {"schema": {"oneOf": schemas} if schemas[1:] else schemas[0], "examples": examples}},
    }


def _fill_submission(contract: Json) -> None:
    """Replace the schema `Submission` by one for each operation, with its own params."""
    schemas = contract["components"]["schemas"]
    submission, mapping = schemas.pop("Submission"), {}
    for name in sorted({name for name, _ in operations()}):
        operation = current_operation(name)
        component = "".join(part.capitalize() for part in name.replace("_", ".").split("."))
        own = {"operation": {"const": name}, "params": _params(operation, schemas)}
        variant = {
            **submission,
            "properties": submission["properties"] | own,
            "description": f"At most {operation.max_attempts} attempts of {operation.timeout_seconds} seconds each.",
        }
        mapping[name] = _add(schemas, component, variant)
    body = contract["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    body["schema"] = {
        "oneOf": [{"$ref": reference} for reference in mapping.values()],
        "discriminator": {"propertyName": "operation", "mapping": mapping},
    }


def _params(operation: Operation, schemas: Json) -> Json:
    """Return a reference to the schema of the operation's params, after adding it and the schemas within it."""
    text = orjson.dumps(schema_of_params(operation.params)).replace(b'"#/$defs/', b'"#/components/schemas/')
    schema = orjson.loads(text)
    del schema["$schema"]
    for name, within in schema.pop("$defs", {}).items():
        _add(schemas, name, within)
    return {"$ref": _add(schemas, operation.params.__name__, schema)}


def _add(schemas: Json, name: str, schema: Json) -> str:
    if schemas.setdefault(name, schema) != schema:
        raise ValueError(f"Two different schemas are named {name!r}: rename the form or the operation.")
    return f"#/components/schemas/{name}"


def _status(slug: str) -> int:
    if slug == "idempotency-key-reused":
        return int(settings.IDEMPOTENCY_MISMATCH_STATUS)
    return PROBLEMS[slug].status or 500


def _schema_name(slug: str) -> str:
    return slug.title().replace("-", "") + "Problem"


def _flatten(slugs: Iterable[str | list[Any]]) -> Iterator[str]:
    """Yield the slugs of a list that holds sets of problems."""
    for slug in slugs:
        if isinstance(slug, str):
            yield slug
        else:
            yield from _flatten(slug)
