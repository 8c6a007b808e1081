"""A worker that dies in the middle of a charge: the job is done by another, and the money is taken once (I1, I2)."""

from __future__ import annotations

import pytest

from tests.support.stack import POLL_SECONDS, Caller, running_stack
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

# The shortest lease that outlasts a charge's time-out (the provider's and 2 s) and its margin (2 s).
ENV = {
    "PAYMENT_PROVIDER_TIMEOUT_SECONDS": "2",
    "EFFECT_TIMEOUT_SECONDS": "4",
    "LEASE_SECONDS": "7",
    "HEARTBEAT_SECONDS": "2",
}


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    with django_db_blocker.unblock(), running_stack(folder, "--slow-seconds", "1", **ENV) as stack:
        stack.start_workers("worker", "maintenance", "beat")
        stack.start_api()
        yield stack


def effects(job):
    return [effect["state"] for effect in job["effects"]]


def test_a_charge_whose_worker_was_killed_is_finished_by_another_and_made_once(stack, api_key):
    caller = Caller(stack.urls["api"], api_key)
    with caller.http:
        first = caller.charge("order-1", "tok_slow")
        assert first.status_code == 202
        address = first.headers["Location"]
        key = f"semel-{first.json()['id']}-charge-1"
        until(lambda: effects(caller.http.get(address).json()) == ["started"], seconds=60, pause_seconds=POLL_SECONDS)
        stack.kill("worker")
        assert effects(caller.http.get(address).json()) == ["started"]
        stack.start_workers("worker")
        [job] = caller.when_ended(1, seconds=60, stack=stack)
        history = [event["type"] for event in caller.http.get(f"{address}/events").json()["data"]]
        assert caller.charge("order-1", "tok_slow").content == first.content
    assert job["state"] == "succeeded"
    assert job["attempt"] == 2
    assert effects(job) == ["done"]
    assert history == ["submit", "claim", "expire", "claim", "succeed"]
    [charge] = stack.provider.charges(key)
    assert job["result"]["charge_id"] == charge["id"]
