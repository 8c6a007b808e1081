"""demo.sleep: nothing happens, for as long as you like. It shows progress, canceling and recovery."""

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
# How long a cancel waits for the sleeper to look up.
SLICE_SECONDS = 0.2


class SleepParams(serializers.Serializer[dict[str, Any]]):
    """How long."""

    seconds = StrictNumberField(min_value=0, max_value=MAX_SECONDS)


class SleepResult(serializers.Serializer[dict[str, Any]]):
    """How long it was."""

    slept = StrictNumberField()


class Sleep(Operation):
    """Sleep. An attempt after a crash begins anew: sleep changes nothing, so there is nothing to remember."""

    name = "demo.sleep"
    params = SleepParams
    result = SleepResult
    timeout_seconds = MAX_SECONDS + 60

    def perform(self, params: dict[str, Any], job: JobHandle) -> dict[str, Any]:
        """The time has passed."""
        total = math.ceil(params["seconds"])
        start = time.monotonic()
        while (left := float(params["seconds"]) - (time.monotonic() - start)) > 0:
            job.check()
            job.progress(total - math.ceil(left), total)
            time.sleep(min(SLICE_SECONDS, left))
        job.progress(total, total)
        return {"slept": params["seconds"]}
