"""Workers that are told to stop, that cannot stop, and that die of their jobs: no job is lost, and no place in a worker."""

from __future__ import annotations

import os
import signal

import pytest
from django.conf import settings

from tests.stack import running_stack

pytestmark = pytest.mark.django_db(transaction=True)

ENV = {
    "PAYMENT_PROVIDER_TIMEOUT_SECONDS": "2",
    "EFFECT_TIMEOUT_SECONDS": "4",
    "LEASE_SECONDS": "7",
    "HEARTBEAT_SECONDS": "0.5",
    "ATTEMPT_MARGIN_SECONDS": "0.5",
    "SELF_END_SECONDS": "0.5",
    "BACKOFF_MAX_SECONDS": "0.5",
}


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker, tmp_path_factory):
    operations = ",".join(
        [
            *settings.OPERATIONS,
            *(f"tests.operations.{name}" for name in ("Stuck", "Poison", "PoisonousCharge")),
        ]
    )
    folder = tmp_path_factory.mktemp("stopped")
    with django_db_blocker.unblock(), running_stack(folder, **ENV, OPERATIONS=operations) as stack:
        stack.start_workers("worker", "maintenance", "beat")
        stack.start_api()
        yield stack


def submit(caller, key, operation, **params):
    body = {"operation": operation, "params": params}
    return caller.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": key}).headers["Location"]


def history(caller, address):
    return [event["type"] for event in caller.http.get(f"{address}/events").json()["data"]]


def test_a_job_that_kills_its_worker_ends_after_its_attempts_and_holds_up_nobody(stack, caller):
    poison = submit(caller, "poison", "test.poison")
    good = [submit(caller, f"good-{number}", "demo.sleep", seconds=0) for number in range(20)]
    for address in good:
        caller.job_when(address, "succeeded")
    job = caller.job_when(poison, "failed")
    assert (job["attempt"], job["attempts_left"]) == (3, 0)
    assert job["error"]["code"] == "attempts-exhausted"
    assert history(caller, poison) == ["submit", *["claim", "expire"] * 3]


def test_a_job_that_kills_its_worker_in_an_effect_ends_unknown_after_one_attempt_that_only_asks(
    stack, caller
):
    poison = submit(caller, "poison", "test.poisonous_charge")
    job = caller.job_when(poison, "unknown")
    assert (job["attempt"], job["attempts_left"]) == (3, 0)
    assert job["error"]["code"] == "outcome-unknown"
    assert history(caller, poison) == ["submit", *["claim", "expire"] * 2, "claim", "doubt"]


def test_an_attempt_that_cannot_stop_is_ended_with_its_process(stack, caller):
    stuck = [submit(caller, f"stuck-{number}", "test.stuck") for number in range(4)]
    for address in stuck:
        job = caller.job_when(address, "failed")
        assert (job["attempt"], job["error"]["cause"]) == (1, "lease-expired")
    caller.job_when(submit(caller, "after", "demo.sleep", seconds=0), "succeeded")


def test_a_worker_that_is_told_to_stop_gives_its_job_back_at_no_charge(stack, caller):
    address = submit(caller, "long", "demo.sleep", seconds=600)
    caller.job_when(address, "running")
    os.kill(stack.running["worker"].popen.pid, signal.SIGTERM)
    job = caller.job_when(address, "queued")
    assert (job["attempt"], job["attempts_left"]) == (1, 5)
    stack.kill("worker")
    stack.start_workers("worker")
    caller.job_when(address, "running")
    assert caller.http.post(f"{address}/cancel").status_code == 200
    job = caller.job_when(address, "canceled")
    assert history(caller, address) == [
        "submit",
        "claim",
        "postpone",
        "claim",
        "cancel-requested",
        "canceled",
    ]
