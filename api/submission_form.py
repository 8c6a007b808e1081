"""The body of `POST /v1/jobs`, validated before anything is stored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from rest_framework import serializers
from rest_framework.request import Request

from accounts.authentication import principal_of
from api.forms import read_body, require_no_query
from jobs.errors import QueueFull
from jobs.fields import InstantField, StrictCharField
from jobs.models import Priority
from jobs.registry import current_operation
from jobs.selectors import has_room
from jobs.submission import Submission

if TYPE_CHECKING:
    from rest_framework.views import APIView

    from accounts.authentication import Principal

_METADATA_MEMBERS, _METADATA_NAME, _METADATA_VALUE = 50, 40, 500
_PRIORITIES = {priority.name.lower(): priority for priority in Priority}


class _ObjectField(serializers.Field[dict[str, Any], Any, Any, Any]):
    default_error_messages = {"not_an_object": "Must be a JSON object."}

    def to_internal_value(self, data: object) -> dict[str, Any]:
        if not isinstance(data, dict):
            self.fail("not_an_object")
        return data


class _MetadataField(_ObjectField):
    default_error_messages = {
        "too_many": f"At most {_METADATA_MEMBERS} members.",
        "name_too_long": f"A name has 1 to {_METADATA_NAME} characters.",
        "not_a_string": f"A value is a string of at most {_METADATA_VALUE} characters.",
    }

    def to_internal_value(self, data: object) -> dict[str, Any]:
        members = super().to_internal_value(data)
        if len(members) > _METADATA_MEMBERS:
            self.fail("too_many")
        if any(not 1 <= len(name) <= _METADATA_NAME for name in members):
            self.fail("name_too_long")
        if any(not isinstance(value, str) or len(value) > _METADATA_VALUE for value in members.values()):
            self.fail("not_a_string")
        return members


class _ConcurrencyKeyField(StrictCharField):
    default_error_messages = {"not_printable": "Only printable characters and spaces."}

    def to_internal_value(self, data: object) -> str:
        key = super().to_internal_value(data)
        if not key.isprintable():
            self.fail("not_printable")
        return key


class SubmissionForm(serializers.Serializer[Any]):
    """The members of the body. The operation defines those of `params`."""

    operation = StrictCharField(max_length=100)
    params = _ObjectField()
    metadata = _MetadataField(required=False)
    run_at = InstantField(required=False)
    deadline = InstantField(required=False)
    concurrency_key = _ConcurrencyKeyField(max_length=255, required=False)
    priority = serializers.ChoiceField(choices=list(_PRIORITIES), required=False, default="default")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse times that make the job impossible, by this process's clock. The database's clock decides when it runs."""
        now, errors = datetime.now(UTC), {}
        run_at, deadline = attrs.get("run_at"), attrs.get("deadline")
        if run_at and run_at - now > timedelta(seconds=settings.RUN_AT_MAX_SECONDS):
            errors["run_at"] = _error("too_late", f"At most {settings.RUN_AT_MAX_SECONDS} s from now.")
        if deadline and deadline <= now:
            errors["deadline"] = _error("in_the_past", "Must be in the future.")
        elif deadline and run_at and deadline <= run_at:
            errors["deadline"] = _error("before_run_at", "Must be after run_at.")
        if errors:
            raise serializers.ValidationError(errors)
        return {**attrs, "priority": _PRIORITIES[attrs["priority"]]}


def read_submission(view: APIView, request: Request) -> Submission:  # noqa: ARG001 - the hook's signature
    """Return the submission in the body. Raises ValidationError, UnknownOperation or QueueFull. Stores nothing."""
    require_no_query(request)
    envelope = read_body(SubmissionForm, request.data)
    operation = current_operation(envelope["operation"])
    try:
        read_body(operation.params, envelope["params"])
    except serializers.ValidationError as error:
        raise serializers.ValidationError({"params": error.detail}) from error
    _refuse_over_cap(principal_of(request))
    return Submission(**{**envelope, "operation": operation})


def _error(code: str, detail: str) -> serializers.ErrorDetail:
    return serializers.ErrorDetail(detail, code=code)


def _refuse_over_cap(principal: Principal) -> None:
    """Raise QueueFull at the limit. Called last, so that errors in the request are reported first.

    Concurrent requests may exceed it.
    """
    limit = settings.QUEUED_JOBS_MAX
    if limit and not has_room(tenant_id=principal.tenant_id, mode=principal.mode, limit=limit):
        raise QueueFull
