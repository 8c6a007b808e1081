"""Celery's time limits, the last resort behind the lease: an attempt that does not stop loses its slot or its process."""

from __future__ import annotations

import psutil
import pytest

from tests.support.stack import POLL_SECONDS, SHORT_LEASE, START_SECONDS, running_stack
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

OPERATIONS = ("Stuck", "Stubborn", "Quick")
# Each takes one slot of the worker.
CONCURRENCY = 2
ENV = {
    **SHORT_LEASE,
    "OPERATIONS": ",".join(f"tests.support.operations.{name}" for name in OPERATIONS),
    # Soft after 2 s, hard after 32: the least that the operations' own limit and its margin leave.
    "TASK_TIME_LIMIT_SECONDS": "32",
    # The heartbeat would end the process sooner.
    "LOST_LEASE_EXIT_SECONDS": "3600",
}


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("limits")
    with django_db_blocker.unblock(), running_stack(folder, **ENV) as stack:
        stack.start_workers("worker", "maintenance", "beat")
        stack.start_api()
        yield stack


def submit(caller, key, operation):
    body = {"operation": operation, "params": {}}
    answer = caller.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": key})
    assert answer.status_code == 202, answer.text
    return answer.headers["Location"]


def children(stack):
    """Return the worker's processes, once all have started."""
    found = {child.pid for child in psutil.Process(stack.running["worker"].popen.pid).children()}
    return found if len(found) == CONCURRENCY else None


@pytest.mark.parametrize(
    ("operation", "survivors"),
    [
        # The soft limit raises in the attempt; its process takes the next job.
        ("test.stuck", CONCURRENCY),
        # The hard limit kills the process.
        ("test.stubborn", 0),
    ],
)
def test_attempts_that_do_not_stop_give_their_slots_to_the_next_job(stack, caller, operation, survivors):
    before = until(lambda: children(stack), seconds=START_SECONDS, pause_seconds=POLL_SECONDS)
    endless = [submit(caller, f"endless-{number}", operation) for number in range(CONCURRENCY)]
    for address in endless:
        # It does not matter whether the soft limit or the lease ends the attempt first.
        assert caller.job_when(address, "failed")["error"]["cause"] in ("lease-expired", "time-limit")
    caller.job_when(submit(caller, "after", "test.quick"), "succeeded")
    after = until(lambda: children(stack), seconds=START_SECONDS, pause_seconds=POLL_SECONDS)
    assert len(before & after) == survivors
