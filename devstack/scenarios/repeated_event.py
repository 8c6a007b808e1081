"""A provider tells of a charge more than once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from devstack.demo_client import JOB_SECONDS, POLL_SECONDS, Figures, Row

if TYPE_CHECKING:
    from devstack.demo_client import Stage

DELIVERIES = 3


def repeated_event(stage: Stage) -> Row:
    """An event that is delivered three times is acted upon once."""
    stage.say("(f) A provider event delivered three times")
    key, before = stage.new_key("told"), stage.charges()
    answer = stage.post(stage.charge(700), key)
    job = stage.ended_job(answer)
    told = _until_delivered(stage, job, 1)
    for delivery in range(2, DELIVERIES + 1):
        stage.provider.post(f"/v1/events/{told['id']}/resend", b"", told["id"])
        told = _until_delivered(stage, job, delivery)
    stage.say(f"    {told['type']}, event {told['id']}, was taken {told['deliveries']} times")
    words = stage.history(answer).count("provider-event")
    stage.say(
        f"    the job's history has it {words} time{'s' * (words != 1)}: {', '.join(stage.history(answer))}"
    )
    figures = stage.count(key, requests=1, replays=0, charges_before=before)
    complaints = [] if job["state"] == "succeeded" else [f"the job ended {job['state']}"]
    complaints += [] if told["deliveries"] == DELIVERIES else [f"{told['deliveries']} deliveries"]
    complaints += [] if words == 1 else [f"acted upon {words} times"]
    return Row("(f) event delivered 3 times", Figures(1, 1, 1, 0), figures, complaints)


def _until_delivered(stage: Stage, job: dict[str, Any], deliveries: int) -> dict[str, Any]:
    """The provider's event about the job, once it was taken so often, or as it is after a minute."""
    end = time.monotonic() + JOB_SECONDS
    while True:
        events = stage.provider.get("/v1/events").document["data"]
        found = [one for one in events if one["body"]["data"]["request"]["job"] == job["id"]]
        if (found and found[0]["deliveries"] >= deliveries) or time.monotonic() > end:
            event: dict[str, Any] = found[0]
            return event
        time.sleep(POLL_SECONDS)
