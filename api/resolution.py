"""The body of `POST /v1/jobs/{id}/resolve`: what an operator says of an unknown outcome."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from jobs.fields import StrictCharField
from jobs.models import JobStep
from jobs.services import verdict_errors
from jobs.states import State

_VERDICTS = {"done": JobStep.State.DONE, "not_done": JobStep.State.NOT_DONE}
_TARGETS = {"succeed": State.SUCCEEDED, "fail": State.FAILED, "queue": State.QUEUED}


class _AnyField(serializers.Field[Any, Any, Any, Any]):
    def to_internal_value(self, data: object) -> object:
        return data


class ResolutionForm(serializers.Serializer[Any]):
    """The step in doubt, what became of it, where the job goes, and why the operator says so."""

    step = StrictCharField(max_length=100)
    verdict = serializers.ChoiceField(choices=list(_VERDICTS))
    then = serializers.ChoiceField(choices=list(_TARGETS))
    note = StrictCharField(max_length=2_000)
    result = _AnyField(required=False, allow_null=True, default=None)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Apply the rule for verdicts."""
        verdict, then = _VERDICTS[attrs["verdict"]], _TARGETS[attrs["then"]]
        if errors := verdict_errors(verdict=verdict, then=then, result=attrs["result"]):
            raise serializers.ValidationError(errors)
        return {**attrs, "verdict": verdict, "then": then}
