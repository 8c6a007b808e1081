"""Scenario: a provider delivers an event more than once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from devstack.demo_client import JOB_SECONDS, POLL_SECONDS, Counts, Result, problems

if TYPE_CHECKING:
    from devstack.demo_client import DemoClient

DELIVERIES = 3


def repeated_event(client: DemoClient) -> Result:
    """An event of the provider that is delivered three times is processed once."""
    client.print(f"(f) A provider event delivered {DELIVERIES} times")
    key, before = client.new_key("event"), client.charges()
    answer = client.post(client.charge_body(700), key)
    job = client.ended_job(answer)
    event = _delivered_event(client, job, 1)
    for delivery in range(2, DELIVERIES + 1):
        client.provider.post(f"/v1/events/{event['id']}/resend", b"", event["id"])
        event = _delivered_event(client, job, delivery)
    client.print(f"    {event['type']}, event {event['id']}, was delivered {event['deliveries']} times")
    history = client.history(answer)
    processed = history.count("provider-event")
    client.print(f"    the job's history has it {processed} time{'s' * (processed != 1)}: {', '.join(history)}")
    counts = client.count(key, requests=1, replays=0, charges_before=before)
    found = problems(
        (job["state"] == "succeeded", f"the job ended {job['state']}"),
        (event["deliveries"] == DELIVERIES, f"{event['deliveries']} deliveries"),
        (processed == 1, f"processed {processed} times"),
    )
    return Result(f"(f) event delivered {DELIVERIES} times", Counts(1, 1, 1, 0), counts, found)


def _delivered_event(client: DemoClient, job: dict[str, Any], deliveries: int) -> dict[str, Any]:
    """Return the provider's event about the job once it was delivered so often, or as it is after JOB_SECONDS."""
    end = time.monotonic() + JOB_SECONDS
    while True:
        events = client.provider.get("/v1/events").document["data"]
        found = [event for event in events if event["body"]["data"]["request"]["job"] == job["id"]]
        if (found and found[0]["deliveries"] >= deliveries) or time.monotonic() > end:
            event: dict[str, Any] = found[0]
            return event
        time.sleep(POLL_SECONDS)
