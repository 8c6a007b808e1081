"""A body is read whole or refused whole: a member that nobody would read must not be dropped in silence."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers


def read_members(form: type[serializers.Serializer[Any]], data: object) -> dict[str, Any]:
    """The members that the form knows, checked. Raises ValidationError with all that is wrong at once."""
    serializer = form(data=data)
    errors: dict[str, Any] = {} if serializer.is_valid() else dict(serializer.errors)
    if isinstance(data, dict):
        errors |= {name: [_unknown()] for name in data if name not in serializer.fields}
    if errors:
        raise serializers.ValidationError(errors)
    return dict(serializer.validated_data)


def _unknown() -> serializers.ErrorDetail:
    return serializers.ErrorDetail("There is no such member.", code="unknown_member")
