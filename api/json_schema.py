"""Forms as JSON Schema 2020-12, for `/v1/operations` and `/schema`."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ComponentRegistry
from rest_framework.serializers import Serializer

DIALECT = "https://json-schema.org/draft/2020-12/schema"
# Strings in requests may hold anything but U+0000, which PostgreSQL cannot store.
PRINTABLE: Mapping[str, Any] = {"pattern": r"^[^\u0000]*$"}


class FormSchema(AutoSchema):
    """drf-spectacular's mapping of serializers, extended for our fields."""

    def _map_serializer(
        self,
        serializer: Serializer[Any] | type[Serializer[Any]],
        direction: str,
        bypass_extensions: bool = False,  # noqa: FBT001, FBT002 - its signature
    ) -> dict[str, Any]:
        """Return the form's schema; exclude U+0000 from strings without a stricter rule."""
        schema: dict[str, Any] = super()._map_serializer(serializer, direction, bypass_extensions)
        members = schema.get("properties", {}).values() if direction == "request" else ()
        for member in members:
            if member.get("type") == "string" and not member.keys() & {"pattern", "format", "enum"}:
                member.update(PRINTABLE)
        return schema

    def standalone(self, form: type[Serializer[Any]], direction: str) -> dict[str, Any]:
        """Return the form's schema with its nested forms in `$defs`."""
        self.registry, self.path, self.method = ComponentRegistry(), "", "POST"
        # Pass a context without a view: by default drf-spectacular takes the context from a view, and there is none here.
        schema = {"$schema": DIALECT, **self._map_serializer(form(context={"view": None}), direction)}
        if nested := self.registry.build({}).get("schemas"):
            schema["$defs"] = nested
        local: dict[str, Any] = _localize(schema)
        return local


@cache
def schema_of_params(form: type[Serializer[Any]]) -> Mapping[str, Any]:
    """Return the schema of an operation's params. It forbids other members."""
    return {**FormSchema().standalone(form, "request"), "additionalProperties": False}


@cache
def schema_of_result(form: type[Serializer[Any]]) -> Mapping[str, Any]:
    """Return the schema of an operation's result. It allows other members, which may be added within v1."""
    return FormSchema().standalone(form, "response")


def _localize(node: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Make references point into this document, and remove drf-spectacular's internal notes."""
    if isinstance(node, dict):
        kept = {name: _localize(value) for name, value in node.items() if name != "x-spec-enum-id"}
        if isinstance(reference := kept.get("$ref"), str):
            kept["$ref"] = reference.replace("#/components/schemas/", "#/$defs/")
        return kept
    return [_localize(value) for value in node] if isinstance(node, list) else node


class _Object(OpenApiSerializerFieldExtension):
    target_class = "api.submission_form._ObjectField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:  # noqa: ARG002
        return {"type": "object"}


class _Metadata(OpenApiSerializerFieldExtension):
    target_class = "api.submission_form._MetadataField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:  # noqa: ARG002
        return {
            "type": "object",
            "maxProperties": 50,
            "propertyNames": {"minLength": 1, "maxLength": 40, **PRINTABLE},
            "additionalProperties": {"type": "string", "maxLength": 500, **PRINTABLE},
        }


class _Anything(OpenApiSerializerFieldExtension):
    target_class = "api.forms._AnyField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:  # noqa: ARG002
        return {"$ref": "#/components/schemas/JsonValue"}


class _ConcurrencyKey(OpenApiSerializerFieldExtension):
    target_class = "api.submission_form._ConcurrencyKeyField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:  # noqa: ARG002
        # Printable characters of any script; the pattern covers only ASCII.
        return {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[^\x00-\x1f\x7f]+$"}


class _Instant(OpenApiSerializerFieldExtension):
    target_class = "jobs.fields.InstantField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:  # noqa: ARG002
        return {"type": "string", "format": "date-time"}


class _Cursor(OpenApiSerializerFieldExtension):
    target_class = "api.forms._CursorField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:  # noqa: ARG002
        # 128 bits, six per character: the last character holds two.
        return {"type": "string", "pattern": "^[A-Za-z0-9_-]{21}[AQgw]$"}
