"""The operations of the benchmark: one that does nothing, and one that makes the 100 ms call."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rest_framework import serializers

from jobs.fields import StrictCharField, StrictIntegerField
from jobs.operations import Operation
from tests.bench.peers.call import call

if TYPE_CHECKING:
    from jobs.operations import JobHandle


class ChargeLikeParams(serializers.Serializer[dict[str, Any]]):
    """The params of a small payment."""

    amount = StrictIntegerField(min_value=1)
    currency = StrictCharField(max_length=3)
    source = StrictCharField(max_length=100)


class AnyResult(serializers.Serializer[dict[str, Any]]):
    """When the operation's first line ran, in seconds since 1970."""

    at = serializers.FloatField()


class Nothing(Operation):
    """Return at once the time at which it was called."""

    name = "bench.nothing"
    params = ChargeLikeParams
    result = AnyResult
    timeout_seconds = 60

    def perform(self, params: dict[str, Any], job: JobHandle) -> dict[str, Any]:
        return {"at": time.time()}


class Call(Nothing):
    """Make one call of 100 ms."""

    name = "bench.call"
    io_bound = True

    def perform(self, params: dict[str, Any], job: JobHandle) -> dict[str, Any]:
        began_at = time.time()
        call()
        return {"at": began_at}
