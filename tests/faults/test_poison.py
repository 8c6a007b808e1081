"""Jobs that kill whatever runs them end after their attempts (I5), and the many good ones among them are not held up.

The suite's share is bounded. The bigger run: `python3 run.py test -n 0 tests/faults/test_poison.py --poisoned-jobs 100`.
"""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.conf import settings
from django.db import connection

from tests.support.promises import assert_nothing_is_left_over
from tests.support.stack import POLL_SECONDS, SHORT_LEASE, running_stack
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

GOOD_PER_POISONED = 20
CLIENTS = 8
# More dead that are replaced at once: a lease each that runs out beside the others.
PROCESSES = 8
# About a hundred processes are started, each for a fraction of a CPU second.
PATIENCE_SECONDS = 400


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker, tmp_path_factory):
    operations = ",".join([*settings.OPERATIONS, "tests.support.operations.Poison"])
    folder = tmp_path_factory.mktemp("poison")
    env = {**SHORT_LEASE, "OPERATIONS": operations, "WORKER_PROCESSES": str(PROCESSES)}
    with django_db_blocker.unblock(), running_stack(folder, **env) as stack:
        stack.start_workers("worker", "maintenance", "beat")
        stack.start_api()
        yield stack


def test_poisoned_jobs_end_and_do_not_delay_other_jobs(stack, caller, pytestconfig):
    poisoned_jobs = pytestconfig.getoption("--poisoned-jobs")
    good_jobs = GOOD_PER_POISONED * poisoned_jobs

    def submit(numbered):
        number, body = numbered
        answer = caller.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": f"order-{number}"})
        assert answer.status_code == 202, answer.text

    good = {"operation": "demo.sleep", "params": {"seconds": 0}}
    poisoned = {"operation": "test.poison", "params": {}}
    bodies = random.sample([good, poisoned], k=good_jobs + poisoned_jobs, counts=[good_jobs, poisoned_jobs])
    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(submit, enumerate(bodies)))
    until(
        lambda: states("demo.sleep") == {"succeeded": good_jobs}, seconds=PATIENCE_SECONDS, pause_seconds=POLL_SECONDS
    )
    # Each good job waited for its turn alone: before none of them were there more bad attempts in a row than chance brings.
    assert most_bad_attempts_in_a_row() < poisoned_jobs // 2
    until(
        lambda: states("test.poison") == {"failed": poisoned_jobs}, seconds=PATIENCE_SECONDS, pause_seconds=POLL_SECONDS
    )
    for job in caller.jobs(operation="test.poison"):
        assert (job["attempt"], job["attempts_left"]) == (3, 0)
        assert job["error"]["code"] == "attempts-exhausted"
    assert not stack.running["worker"].has_ended
    assert_nothing_is_left_over(seconds=PATIENCE_SECONDS)


def most_bad_attempts_in_a_row():
    """Between two good ones that followed each other, or before the first."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT job.operation FROM job_attempt JOIN job ON job.id = job_id ORDER BY job_attempt.started_at"
        )
        begun = "".join("." if operation == "demo.sleep" else "x" for (operation,) in cursor.fetchall())
    return max(map(len, begun.rstrip("x").split(".")))


def states(operation):
    """How many jobs of the operation are in which state."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT state FROM job WHERE operation = %s", [operation])
        return Counter(state for (state,) in cursor.fetchall())
