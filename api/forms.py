"""Forms of query strings and bodies. An unknown or repeated member is an error: a typo must not be ignored."""

from typing import Any
from uuid import UUID

from django.http import QueryDict
from rest_framework import serializers
from rest_framework.request import Request

from jobs.fields import StrictCharField
from jobs.forms import bind_form
from jobs.keyset import decode_cursor
from jobs.models import JobStep
from jobs.selectors import JobFilter
from jobs.services import verdict_errors
from jobs.states import State

DEFAULT_LIMIT, MAX_LIMIT = 20, 100
# Events are small and most jobs have few: one page holds the whole history of nearly every job.
DEFAULT_EVENTS, MAX_EVENTS = 100, 500


class InvalidQuery(serializers.ValidationError):
    """The query string has errors, which name parameters instead of members of a body."""


class _CursorField(serializers.Field[UUID, str, str, Any]):
    default_error_messages = {"invalid": "Not a valid cursor. Use `next_cursor` of a page, unchanged."}

    def to_internal_value(self, data: str) -> UUID:
        try:
            return decode_cursor(data)
        except ValueError:
            self.fail("invalid")


class _AnyField(serializers.Field[Any, Any, Any, Any]):
    def to_internal_value(self, data: object) -> object:
        return data


class _NoMembers(serializers.Serializer[Any]):
    pass


class ListQuery(serializers.Serializer[Any]):
    """Filters and page of a list of jobs."""

    state = serializers.ChoiceField(choices=list(State), required=False)
    operation = serializers.CharField(max_length=100, trim_whitespace=False, required=False)
    idempotency_key = serializers.CharField(max_length=255, trim_whitespace=False, required=False)
    created_after = serializers.DateTimeField(required=False)
    created_before = serializers.DateTimeField(required=False)
    limit = serializers.IntegerField(min_value=1, max_value=MAX_LIMIT, default=DEFAULT_LIMIT)
    cursor = _CursorField(required=False)


class StreamQuery(serializers.Serializer[Any]):
    """The event number after which a stream starts."""

    after = serializers.IntegerField(min_value=0, max_value=2**31 - 1, default=0)


class EventsQuery(StreamQuery):
    """The event number after which a page starts, and its size."""

    limit = serializers.IntegerField(min_value=1, max_value=MAX_EVENTS, default=DEFAULT_EVENTS)


class JobQuery(serializers.Serializer[Any]):
    """Seconds to wait for the end of a job."""

    wait = serializers.IntegerField(min_value=0, max_value=60, default=0)


class ResolutionForm(serializers.Serializer[Any]):
    """An operator's verdict on the step whose outcome is unknown, and the job's next state."""

    VERDICTS = {"done": JobStep.State.DONE, "not_done": JobStep.State.NOT_DONE}
    TARGETS = {"succeed": State.SUCCEEDED, "fail": State.FAILED, "queue": State.QUEUED}

    step = StrictCharField(max_length=100)
    verdict = serializers.ChoiceField(choices=list(VERDICTS))
    then = serializers.ChoiceField(choices=list(TARGETS))
    note = StrictCharField(max_length=2_000)
    result = _AnyField(required=False, allow_null=True, default=None)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Apply the rule for verdicts."""
        verdict, then = self.VERDICTS[attrs["verdict"]], self.TARGETS[attrs["then"]]
        if errors := verdict_errors(verdict=verdict, then=then, result=attrs["result"]):
            raise serializers.ValidationError(errors)
        return {**attrs, "verdict": verdict, "then": then}


def read_body(form: type[serializers.Serializer[Any]], data: object) -> dict[str, Any]:
    """Return the members that the form defines. Raises ValidationError with all errors at once."""
    serializer = bind_form(form, data)
    errors: dict[str, Any] = {} if serializer.is_valid() else dict(serializer.errors)
    if isinstance(data, dict):
        errors |= {name: [_unknown("member")] for name in data if name not in serializer.fields}
    if errors:
        raise serializers.ValidationError(errors)
    return dict(serializer.validated_data)


def read_query(form: type[serializers.Serializer[Any]], query: QueryDict) -> dict[str, Any]:
    """Return the parameters that the form defines. Raises InvalidQuery with all errors at once."""
    serializer = bind_form(form, query.dict())
    errors: dict[str, Any] = {} if serializer.is_valid() else dict(serializer.errors)
    for name, values in query.lists():
        if name not in serializer.fields:
            errors[name] = [_unknown("parameter")]
        elif len(values) > 1:
            errors[name] = [serializers.ErrorDetail("Send it once.", code="repeated_parameter")]
    if errors:
        raise InvalidQuery(errors)
    return dict(serializer.validated_data)


def read_list_query(query: QueryDict) -> tuple[JobFilter, UUID | None, int]:
    """Return the filter, the id before which the page starts, and the page size. Raises InvalidQuery."""
    params = read_query(ListQuery, query)
    limit, before = params.pop("limit"), params.pop("cursor", None)
    return JobFilter(**params), before, limit


def read_last_event_id(value: str) -> int:
    """Return the event number of a `Last-Event-ID` header. Raises InvalidQuery, as for `after`."""
    form = StreamQuery(data={"after": value})
    if not form.is_valid():
        raise InvalidQuery({"Last-Event-ID": form.errors["after"]})
    return int(form.validated_data["after"])


def require_no_query(request: Request) -> None:
    """Raise InvalidQuery if the request has a query string."""
    if request.META.get("QUERY_STRING"):
        read_query(_NoMembers, request.query_params)


def require_empty_request(request: Request) -> None:
    """Raise ValidationError if the request has a query string, or a body other than `{}`."""
    require_no_query(request)
    read_body(_NoMembers, request.data if request.body else {})


def _unknown(kind: str) -> serializers.ErrorDetail:
    return serializers.ErrorDetail(f"Unknown {kind}.", code=f"unknown_{kind}")
