"""A body is read whole or refused whole: a member that nobody would read must not be dropped in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework import serializers

from api.query_strings import check_no_query

if TYPE_CHECKING:
    from rest_framework.request import Request


def read_members(form: type[serializers.Serializer[Any]], data: object) -> dict[str, Any]:
    """The members that the form knows, checked. Raises ValidationError with all that is wrong at once."""
    serializer = form(data=data)
    errors: dict[str, Any] = {} if serializer.is_valid() else dict(serializer.errors)
    if isinstance(data, dict):
        errors |= {name: [_unknown()] for name in data if name not in serializer.fields}
    if errors:
        raise serializers.ValidationError(errors)
    return dict(serializer.validated_data)


class _NoMembers(serializers.Serializer[Any]):
    """Nothing to say."""


def check_nothing_said(request: Request) -> None:
    """The request has no query, and no body or `{}`: what is asked for stands in its path. Raises ValidationError."""
    check_no_query(request.query_params)
    read_members(_NoMembers, request.data if request.body else {})


def _unknown() -> serializers.ErrorDetail:
    return serializers.ErrorDetail("There is no such member.", code="unknown_member")
