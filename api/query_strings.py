"""The query strings of `/v1/jobs`, checked; and the cursor, whose page stays right while jobs arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from rest_framework import serializers

from jobs.keyset import decode_cursor
from jobs.selectors import JobFilter
from jobs.states import State

if TYPE_CHECKING:
    from django.http import QueryDict

DEFAULT_LIMIT, MAX_LIMIT = 20, 100
# An event is small, and most jobs have few: one page is the whole history of nearly every job.
DEFAULT_EVENTS, MAX_EVENTS = 100, 500


class InvalidQuery(serializers.ValidationError):
    """The query string does not fit: its errors name parameters, not members of a body."""


class _CursorField(serializers.Field[UUID, str, str, Any]):
    default_error_messages = {"invalid": "Not a cursor of ours. Take it from `next_cursor`, unchanged."}

    def to_internal_value(self, data: str) -> UUID:
        try:
            return decode_cursor(data)
        except ValueError:
            self.fail("invalid")


class ListQuery(serializers.Serializer[Any]):
    """What a listing can be narrowed to."""

    state = serializers.ChoiceField(choices=list(State), required=False)
    operation = serializers.CharField(max_length=100, trim_whitespace=False, required=False)
    idempotency_key = serializers.CharField(max_length=255, trim_whitespace=False, required=False)
    created_after = serializers.DateTimeField(required=False)
    created_before = serializers.DateTimeField(required=False)
    limit = serializers.IntegerField(min_value=1, max_value=MAX_LIMIT, default=DEFAULT_LIMIT)
    cursor = _CursorField(required=False)


class StreamQuery(serializers.Serializer[Any]):
    """From where on events are wanted."""

    after = serializers.IntegerField(min_value=0, max_value=2**31 - 1, default=0)


class EventsQuery(StreamQuery):
    """From where on, and how many at once."""

    limit = serializers.IntegerField(min_value=1, max_value=MAX_EVENTS, default=DEFAULT_EVENTS)


class NoQuery(serializers.Serializer[Any]):
    """No parameter at all."""


class JobQuery(serializers.Serializer[Any]):
    """How a job is read."""

    wait = serializers.IntegerField(min_value=0, max_value=60, default=0)


def read_listing(query: QueryDict) -> tuple[JobFilter, UUID | None, int]:
    """The filter, the id to go on from, and the page size. Raises ValidationError."""
    wanted = _read(ListQuery, query)
    limit, before = wanted.pop("limit"), wanted.pop("cursor", None)
    return JobFilter(**wanted), before, limit


def read_events(query: QueryDict) -> tuple[int, int]:
    """The number of the event to go on from, and the page size. Raises ValidationError."""
    wanted = _read(EventsQuery, query)
    return wanted["after"], wanted["limit"]


def read_after(query: QueryDict) -> int:
    """The number of the event that a stream is to go on from. Raises ValidationError."""
    return int(_read(StreamQuery, query)["after"])


def check_no_query(query: QueryDict) -> None:
    """Nothing can be asked for here. Raises ValidationError where something is."""
    _read(NoQuery, query)


def read_last_event_id(value: str) -> int:
    """The number that a stream's `Last-Event-ID` names. Raises ValidationError, as for `after`."""
    form = StreamQuery(data={"after": value})
    if not form.is_valid():
        raise InvalidQuery({"Last-Event-ID": form.errors["after"]})
    return int(form.validated_data["after"])


def read_wait(query: QueryDict) -> int:
    """For how many seconds the client would wait. Raises ValidationError."""
    return int(_read(JobQuery, query)["wait"])


def _read(form: type[serializers.Serializer[Any]], query: QueryDict) -> dict[str, Any]:
    """The checked parameters. One that nobody would read, or that stands twice, is refused: a typo must not widen a list."""
    serializer = form(data=query.dict())
    errors: dict[str, Any] = {} if serializer.is_valid() else dict(serializer.errors)
    for name, values in query.lists():
        if name not in serializer.fields:
            errors[name] = [serializers.ErrorDetail("There is no such parameter.", code="unknown_parameter")]
        elif len(values) > 1:
            errors[name] = [serializers.ErrorDetail("Give it once.", code="repeated_parameter")]
    if errors:
        raise InvalidQuery(errors)
    return dict(serializer.validated_data)
