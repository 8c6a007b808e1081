"""The whole document: drf-spectacular walks the addresses and maps the forms; the table says the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from django.urls import URLPattern
from drf_spectacular.drainage import warn
from drf_spectacular.generators import EndpointEnumerator, SchemaGenerator
from drf_spectacular.plumbing import ResolvedComponent

from api.json_schema import FormSchema
from api.submission import SubmissionForm
from config.openapi.describe import components, describe, problem_responses
from config.openapi.endpoints import ELSEWHERE, ENDPOINTS
from config.openapi.schemas import SCHEMAS
from jobs.registry import current_operation, operations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drf_spectacular.plumbing import ComponentRegistry
    from rest_framework.request import Request
    from rest_framework.serializers import Serializer


class TableSchema(FormSchema):
    """The description of a DRF view's method, from the table and its forms."""

    def get_operation(
        self,
        path: str,
        path_regex: str,  # noqa: ARG002 - drf-spectacular's signature
        path_prefix: str,  # noqa: ARG002
        method: str,
        registry: ComponentRegistry,
    ) -> dict[str, Any] | None:
        """The operation; nothing, with a warning that fails the build, for what the table does not know."""
        endpoint = ENDPOINTS.get((method, path))
        if endpoint is None:
            warn(f"{method} {path} is not described in config/openapi/endpoints/")
            return None
        self.registry, self.path, self.method = registry, path, method
        body: Mapping[str, Any] | None = None
        if isinstance(endpoint.body, str):
            body = self._submission()
        elif endpoint.body is not None:
            body = self._form(endpoint.body, **endpoint.body_rules)
        elif endpoint.body_schema is not None:
            body = endpoint.body_schema
        query = [] if endpoint.query is None else self._query(endpoint.query)
        return describe(endpoint, path, query=query, body=body)

    def _query(self, form: type[Serializer[Any]]) -> Sequence[Mapping[str, Any]]:
        schemas = self._map_serializer(form, "request").get("properties", {})
        return [{"name": name, "in": "query", "schema": schema} for name, schema in schemas.items()]

    def _form(self, form: type[Serializer[Any]], **rules: object) -> Mapping[str, Any]:
        """The schema of a form, which takes no member beyond its own; `rules` stand between its members."""
        closed = {"additionalProperties": False, **rules}
        component = self.resolve_serializer(form, "request")
        if not component:  # it has no members
            return {"type": "object", **closed}
        component.schema |= closed
        reference: Mapping[str, Any] = component.ref
        return reference

    def _submission(self) -> dict[str, Any]:
        """One of as many schemas as there are operations: the members of a submission, with the params of this one."""
        whole = self._map_serializer(SubmissionForm, "request")
        mapping: dict[str, str] = {}
        for name in sorted({name for name, _ in operations()}):
            operation = current_operation(name)
            own = {"operation": {"const": name}, "params": self._form(operation.params)}
            component = ResolvedComponent(
                name="".join(word.capitalize() for word in name.replace("_", ".").split(".")),
                type=ResolvedComponent.SCHEMA,
                object=operation,
                schema={
                    **whole,
                    "properties": {**whole["properties"], **own},
                    "description": f"At most {operation.max_attempts} attempts of {operation.timeout_seconds} seconds each.",
                    "additionalProperties": False,
                },
            )
            self.registry.register_on_missing(component)
            mapping[name] = component.ref["$ref"]
        return {
            "oneOf": [{"$ref": ref} for ref in mapping.values()],
            "discriminator": {"propertyName": "operation", "mapping": mapping},
        }


class Generator(SchemaGenerator):
    """Adds what is no DRF view, and the components that the table refers to."""

    def parse(self, input_request: Request | None, public: bool) -> dict[str, Any]:  # noqa: FBT001 - its signature
        """Every address that the table describes, DRF's or not."""
        paths: dict[str, Any] = super().parse(input_request, public)
        for path in self._plain_paths():
            if endpoint := ENDPOINTS.get(("GET", path)):
                paths[path] = {"get": describe(endpoint, path, query=(), body=None)}
        return paths

    def get_schema(self, request: Request | None = None, public: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002
        """The document."""
        document: dict[str, Any] = super().get_schema(request, public)
        own = document["components"]
        own["schemas"] = {**own.get("schemas", {}), **SCHEMAS}
        responses = {slug: problem_responses([slug]).popitem()[1] for slug in ELSEWHERE}
        whole = {**document, "components": {**own, **components(), "responses": responses}}
        plain: dict[str, Any] = orjson.loads(orjson.dumps(whole))  # text for enums, as YAML wants it
        return plain

    def _plain_paths(self) -> list[str]:
        """The addresses at the root that are answered by plain views."""
        inspector = EndpointEnumerator()
        plain = [one for one in inspector.patterns or () if isinstance(one, URLPattern)]
        return [inspector.get_path_from_regex(f"/{one.pattern}") for one in plain]
