"""demo.sleep: wait for a number of seconds. It demonstrates progress, cancellation and recovery."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from rest_framework import serializers

from jobs.fields import StrictNumberField
from jobs.operations import Operation

if TYPE_CHECKING:
    from jobs.operations import JobHandle

MAX_SECONDS = 3_600
# The longest time until a running sleep notices a cancel request.
SLICE_SECONDS = 0.2


class SleepParams(serializers.Serializer[dict[str, Any]]):
    """How long to sleep."""

    seconds = StrictNumberField(min_value=0, max_value=MAX_SECONDS)


class SleepResult(serializers.Serializer[dict[str, Any]]):
    """How long the job slept."""

    slept = StrictNumberField()


class Sleep(Operation):
    """Sleep. An attempt after a crash starts again from zero: there is nothing to record."""

    name = "demo.sleep"
    params = SleepParams
    result = SleepResult
    timeout_seconds = MAX_SECONDS + 60

    def perform(self, params: dict[str, Any], job: JobHandle) -> dict[str, Any]:
        total = math.ceil(params["seconds"])
        start = time.monotonic()
        while (left := float(params["seconds"]) - (time.monotonic() - start)) > 0:
            job.check()
            job.progress(total - math.ceil(left), total)
            time.sleep(min(SLICE_SECONDS, left))
        job.progress(total, total)
        return {"slept": params["seconds"]}
