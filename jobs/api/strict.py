"""A body is read whole or refused whole: a member that nobody would read must not be dropped in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework import serializers

if TYPE_CHECKING:
    from collections.abc import Collection


def read_members(
    form: type[serializers.Serializer[Any]], data: object, *, not_offered: Collection[str] = ()
) -> dict[str, Any]:
    """The members that the form knows, checked. Raises ValidationError with all that is wrong at once.

    not_offered: members of the contract that this release does not act on yet; refused in words of their own.
    """
    serializer = form(data=data)
    errors: dict[str, Any] = {} if serializer.is_valid() else dict(serializer.errors)
    if isinstance(data, dict):
        errors |= {name: [_refusal(name, not_offered)] for name in data if name not in serializer.fields}
    if errors:
        raise serializers.ValidationError(errors)
    return dict(serializer.validated_data)


def _refusal(name: str, not_offered: Collection[str]) -> serializers.ErrorDetail:
    if name in not_offered:
        return serializers.ErrorDetail("This release does not offer it yet.", code="not_offered")
    return serializers.ErrorDetail("There is no such member.", code="unknown_member")
