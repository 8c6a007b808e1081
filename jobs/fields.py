"""Serializer fields for an operation's params that accept only the right JSON type.

DRF's own fields read "1999" and 19.0 as integers, and numbers as text. In a request that moves money a wrong type is a mistake,
which is reported, not repaired. Numbers stay exact: int, or Decimal if they are not whole; never float.
"""

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from rest_framework import serializers

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


class StrictIntegerField(serializers.IntegerField):
    """A whole number in any notation (1999, 1999.0); no string, no boolean."""

    def to_internal_value(self, data: Any) -> int:  # noqa: ANN401 - what the client sent
        if not _is_number(data) or data != int(data):
            self.fail("invalid")
        return int(data)


class StrictNumberField(serializers.FloatField):
    """An exact number; no string, no boolean."""

    def to_internal_value(self, data: Any) -> int | Decimal:  # type: ignore[override] # noqa: ANN401 - exact, not float
        if not _is_number(data):
            self.fail("invalid")
        number: int | Decimal = data
        return number


class StrictUUIDField(serializers.UUIDField):
    """A UUID in the usual form, as our ids are written; no number, no braces, no urn."""

    def to_internal_value(self, data: Any) -> UUID:  # noqa: ANN401 - what the client sent
        if not isinstance(data, str) or not _UUID.fullmatch(data):
            self.fail("invalid", value=data)
        return UUID(data)


class StrictDateField(serializers.DateField):
    """A date of RFC 3339 (2030-01-31); no instant, no week, no number."""

    def to_internal_value(self, value: Any) -> date:  # noqa: ANN401 - what the client sent
        if not isinstance(value, str) or not _DATE.fullmatch(value):
            self.fail("invalid", format="YYYY-MM-DD")
        try:
            return date.fromisoformat(value)
        except ValueError:  # no such date
            self.fail("invalid", format="YYYY-MM-DD")


class InstantField(serializers.Field[datetime, Any, Any, Any]):
    """An instant of RFC 3339 with its offset; returned in UTC, to the microsecond."""

    default_error_messages = {
        "invalid": "Must be an instant of RFC 3339 with its offset, such as 2030-01-31T12:00:00Z."
    }

    def to_internal_value(self, data: object) -> datetime:
        if not isinstance(data, str) or not _RFC_3339.fullmatch(data):
            self.fail("invalid")
        try:
            return datetime.fromisoformat(data.upper()).astimezone(UTC)
        except (ValueError, OverflowError):  # no such date, or outside the calendar in UTC
            self.fail("invalid")


class StrictCharField(serializers.CharField):
    """A string as it was sent, white space included; no number, no boolean."""

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - the base class's
        super().__init__(**{"trim_whitespace": False, **kwargs})

    def to_internal_value(self, data: Any) -> str:  # noqa: ANN401 - what the client sent
        if not isinstance(data, str):
            self.fail("invalid")
        return str(super().to_internal_value(data))


def _is_number(data: Any) -> bool:  # noqa: ANN401 - what the client sent
    """True for a finite JSON number. Python counts booleans as integers; JSON does not."""
    if isinstance(data, Decimal):
        return data.is_finite()
    return isinstance(data, int) and not isinstance(data, bool)
