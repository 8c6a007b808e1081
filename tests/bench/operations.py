"""The operations that the benchmark gives to Semel: as little work as possible, and one call that takes 100 ms."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rest_framework import serializers

from jobs.fields import StrictCharField, StrictIntegerField
from jobs.operations import Operation
from tests.bench.slow_call import call_slow_service

if TYPE_CHECKING:
    from jobs.operations import JobHandle

OPERATIONS = ("Nothing", "Call", "PlainCall")


class ChargeParams(serializers.Serializer[dict[str, Any]]):
    """The params that every contestant gets."""

    amount = StrictIntegerField(min_value=1)
    currency = StrictCharField(max_length=3)
    source = StrictCharField(max_length=255)  # type: ignore[assignment] # removed by the metaclass


class Nothing(Operation):
    """Do nothing but return the time of its first line, in seconds since 1970."""

    name = "bench.nothing"
    params = ChargeParams

    def perform(self, params: dict[str, Any], job: JobHandle) -> dict[str, Any]:
        return {"at": time.time()}


class Call(Operation):
    """Make the call as an effect: recorded before and after, under a key that stays the same."""

    name = "bench.call"
    params = ChargeParams
    io_bound = True

    def perform(self, params: dict[str, Any], job: JobHandle) -> dict[str, Any]:
        timeout = timedelta(seconds=10)
        answer = job.effect("call", _call, timeout=timeout, key_window=timedelta(hours=24))
        return {"answer": answer}


class PlainCall(Operation):
    """Make the call without a record of it, as a task of the naive service does."""

    name = "bench.plain_call"
    params = ChargeParams
    io_bound = True

    def perform(self, params: dict[str, Any], job: JobHandle) -> dict[str, Any]:
        return {"answer": call_slow_service(os.environ["BENCH_CALL_URL"])}


def _call(key: str) -> str:
    return call_slow_service(os.environ["BENCH_CALL_URL"], key)
