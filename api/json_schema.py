"""What a form takes, and what is returned, as JSON Schema 2020-12. `/v1/operations` shows it, and `/schema` is made of it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ComponentRegistry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rest_framework.serializers import Serializer

DIALECT = "https://json-schema.org/draft/2020-12/schema"
# What strings in requests may hold: anything but U+0000, which no string of PostgreSQL's can.
PRINTABLE: Mapping[str, Any] = {"pattern": r"^[^\u0000]*$"}


class FormSchema(AutoSchema):
    """drf-spectacular's mapping of forms, with what it does not know of ours."""

    def _map_serializer(
        self,
        serializer: Serializer[Any] | type[Serializer[Any]],
        direction: str,
        bypass_extensions: bool = False,  # noqa: FBT001, FBT002 - its signature
    ) -> dict[str, Any]:
        """The form's schema. A string that is sent may hold anything but U+0000, unless more is said of it."""
        schema: dict[str, Any] = super()._map_serializer(serializer, direction, bypass_extensions)
        members = schema.get("properties", {}).values() if direction == "request" else ()
        for member in members:
            if member.get("type") == "string" and not member.keys() & {"pattern", "format", "enum"}:
                member.update(PRINTABLE)
        return schema

    def standalone(self, form: type[Serializer[Any]], direction: str) -> dict[str, Any]:
        """The form's schema with the forms within it, as no other document is at hand to refer to."""
        self.registry, self.path, self.method = ComponentRegistry(), "", "POST"
        # With a context of its own, or drf-spectacular would take it from a view.
        schema = {"$schema": DIALECT, **self._map_serializer(form(context={"view": None}), direction)}
        if within := self.registry.build({}).get("schemas"):
            schema["$defs"] = within
        plain: dict[str, Any] = _at_home(schema)
        return plain


@cache
def schema_of_params(form: type[Serializer[Any]]) -> Mapping[str, Any]:
    """What the form takes, whole in itself; no member beyond its own."""
    return {**FormSchema().standalone(form, "request"), "additionalProperties": False}


@cache
def schema_of_result(form: type[Serializer[Any]]) -> Mapping[str, Any]:
    """What the form says of what is returned, whole in itself. Members may be added within v1: it forbids none."""
    return FormSchema().standalone(form, "response")


def _at_home(node: Any) -> Any:  # noqa: ANN401 - any JSON value
    """What is within this document refers to this document, and holds no notes of drf-spectacular's to itself."""
    if isinstance(node, dict):
        kept = {name: _at_home(value) for name, value in node.items() if name != "x-spec-enum-id"}
        if isinstance(reference := kept.get("$ref"), str):
            kept["$ref"] = reference.replace("#/components/schemas/", "#/$defs/")
        return kept
    return [_at_home(value) for value in node] if isinstance(node, list) else node


class _Object(OpenApiSerializerFieldExtension):
    target_class = "api.submission._ObjectField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:  # noqa: ARG002
        return {"type": "object"}


class _Metadata(OpenApiSerializerFieldExtension):
    target_class = "api.submission._MetadataField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:  # noqa: ARG002
        return {
            "type": "object",
            "maxProperties": 50,
            "propertyNames": {"minLength": 1, "maxLength": 40, **PRINTABLE},
            "additionalProperties": {"type": "string", "maxLength": 500, **PRINTABLE},
        }


class _Anything(OpenApiSerializerFieldExtension):
    target_class = "api.resolution._AnyField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:  # noqa: ARG002
        return {"$ref": "#/components/schemas/JsonValue"}


class _ConcurrencyKey(OpenApiSerializerFieldExtension):
    target_class = "api.submission._ConcurrencyKeyField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:  # noqa: ARG002
        # Printable characters of any script; the pattern says so of the first 128.
        return {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[^\x00-\x1f\x7f]+$"}


class _Instant(OpenApiSerializerFieldExtension):
    target_class = "jobs.fields.InstantField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:  # noqa: ARG002
        return {"type": "string", "format": "date-time"}


class _Cursor(OpenApiSerializerFieldExtension):
    target_class = "api.query_strings._CursorField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:  # noqa: ARG002
        # 128 bits, six to a character: the last one has two.
        return {"type": "string", "pattern": "^[A-Za-z0-9_-]{21}[AQgw]$"}
