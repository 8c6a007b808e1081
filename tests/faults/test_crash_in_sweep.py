"""A sweep that dies, freezes, hangs or fails between marking and publishing: the next sweep does the rest (I2, I9)."""

from __future__ import annotations

import pytest

from devstack.ports import free_port
from tests.support.stack import POLL_SECONDS, SHORT_LEASE, START_SECONDS, running_stack
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

KEYS = [f"order-{number}" for number in range(6)]
ENV = {**SHORT_LEASE, "MAINTENANCE_TIME_LIMIT_SECONDS": "4"}


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    with django_db_blocker.unblock(), running_stack(folder, **ENV) as stack:
        stack.start_workers("worker", "beat")
        # It reaches no broker: every hint comes from the sweep.
        stack.start_api(REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
        yield stack


@pytest.mark.parametrize(
    ("action", "sign"),
    [
        ("kill", "SIGKILL"),
        ("raise", "FaultPointReached"),
        ("hang", "time limit (4s) exceeded"),
        ("stop", "time limit (4s) exceeded"),
    ],
)
def test_a_sweep_that_fails_before_it_publishes_leaves_the_jobs_to_the_next_sweep(stack, ledger, action, sign):
    for key in KEYS:
        ledger.charge(key)
    name = f"maintenance-{action}"
    stack.start_workers(name, FAULT_POINT=f"mid_sweep:1:{action}")
    log = stack.running[name].log
    until(lambda: sign in log.read_text(), seconds=START_SECONDS, pause_seconds=POLL_SECONDS)
    jobs = ledger.settle()
    assert {job["state"] for job in jobs.values()} == {"succeeded"}
    assert {tuple(ledger.history(key)) for key in KEYS} == {("submit", "claim", "succeed")}
    assert " is reached: " in log.read_text()
    stack.kill(name)
