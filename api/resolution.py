"""The body of `POST /v1/jobs/{id}/resolve`: what an operator says of an unknown outcome."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from jobs.fields import StrictCharField
from jobs.models import JobStep
from jobs.states import State

_VERDICTS = {"done": JobStep.State.DONE, "not_done": JobStep.State.NOT_DONE}
_WAYS = {"succeed": State.SUCCEEDED, "fail": State.FAILED, "queue": State.QUEUED}


class _AnyField(serializers.Field[Any, Any, Any, Any]):
    def to_internal_value(self, data: object) -> object:
        return data


class ResolutionForm(serializers.Serializer[Any]):
    """The step in doubt, what became of it, where the job goes, and why the operator says so."""

    step = StrictCharField(max_length=100)
    verdict = serializers.ChoiceField(choices=list(_VERDICTS))
    then = serializers.ChoiceField(choices=list(_WAYS))
    note = StrictCharField(max_length=2_000)
    result = _AnyField(required=False, allow_null=True, default=None)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """A job succeeds by what was done; a result is the result of something done."""
        if attrs["verdict"] == "not_done" and attrs["then"] == "succeed":
            raise serializers.ValidationError({"then": "A job whose effect was not done has not succeeded."})
        if attrs["verdict"] == "not_done" and attrs["result"] is not None:
            raise serializers.ValidationError({"result": "What was not done has no result."})
        return {**attrs, "verdict": _VERDICTS[attrs["verdict"]], "then": _WAYS[attrs["then"]]}
