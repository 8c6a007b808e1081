"""A database that is away for longer than a lease: what an attempt did meanwhile is done over by another, once (I1, I2)."""

from __future__ import annotations

import time

import pytest

from tests.support.postgres import running_postgres
from tests.support.stack import POLL_SECONDS, SHORT_LEASE, START_SECONDS, Caller, running_stack
from tests.support.waiting import until

# The shortest lease that outlasts a charge which takes four seconds, and leaves time to stop the server meanwhile.
LEASE_SECONDS = 11
ENV = {
    **SHORT_LEASE,
    "PAYMENT_PROVIDER_TIMEOUT_SECONDS": "5",
    "EFFECT_TIMEOUT_SECONDS": "7",
    "LEASE_SECONDS": str(LEASE_SECONDS),
}


@pytest.fixture
def postgres(tmp_path_factory):
    with running_postgres(tmp_path_factory.mktemp("postgres")) as postgres:
        yield postgres


@pytest.fixture
def stack(tmp_path, postgres):
    with running_stack(tmp_path, "--slow-seconds", "4", DATABASE_URL=postgres.url, **ENV) as stack:
        stack.start_workers("worker", "maintenance", "beat")
        stack.start_api()
        yield stack


def test_a_charge_whose_attempt_could_not_record_it_is_recorded_by_the_next(stack, postgres):
    caller = Caller(stack.urls["api"], postgres.new_api_key())
    with caller.http:
        address = caller.charge("order-1", "tok_slow").headers["Location"]
        until(lambda: caller.http.get(address).json()["effects"], seconds=START_SECONDS, pause_seconds=POLL_SECONDS)
        key = f"semel-{address.rpartition('/')[2]}-charge-1"
        began = time.monotonic()
        with postgres.stopped():
            until(lambda: stack.provider.charges(key), seconds=START_SECONDS, pause_seconds=POLL_SECONDS)
            until(lambda: time.monotonic() - began > LEASE_SECONDS + 1, seconds=60)
        job = caller.job_when(address, "succeeded")
        history = [event["type"] for event in caller.http.get(f"{address}/events").json()["data"]]
        assert history == ["submit", "claim", "expire", "claim", "succeed"]
        assert stack.provider.outcomes(key) == ["charged", "replayed"]
        assert [charge["id"] for charge in stack.provider.charges(key)] == [job["result"]["charge_id"]]
        # And all goes on: each process serves as before.
        after = [caller.charge(f"after-{number}").headers["Location"] for number in range(4)]
        for one in after:
            caller.job_when(one, "succeeded")
    until(lambda: not postgres.idle_in_transaction(), pause_seconds=POLL_SECONDS)
