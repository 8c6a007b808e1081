"""Real workers run a concurrency queue in order, one job at a time, and continue after one of them is killed."""

from __future__ import annotations

from itertools import pairwise

import pytest

from jobs.models import Job, JobAttempt
from jobs.registry import current_operation
from jobs.states import State
from jobs.submission import Submission, submit_job
from tests.support.factories import TenantFactory
from tests.support.promises import messages
from tests.support.stack import POLL_SECONDS, SHORT_LEASE, running_stack
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def stack(transactional_db, tmp_path):
    with running_stack(tmp_path, WORKER_PROCESSES="4", **SHORT_LEASE) as stack:
        stack.start_workers("worker", "maintenance", "beat")
        yield stack


def submit(tenant, key, *, seconds=0):
    operation = current_operation("demo.sleep")
    submission = Submission(operation=operation, params={"seconds": seconds}, concurrency_key=key)
    return submit_job(tenant_id=tenant.id, mode="test", submission=submission)


def until_true(stack, fact):
    try:
        return until(fact, seconds=90, pause_seconds=POLL_SECONDS)
    except AssertionError as error:
        jobs = list(Job.objects.order_by("id").values_list("concurrency_key", "state", "attempt"))
        raise AssertionError(f"{error}\n{jobs}\n{stack.logs()}") from None


def all_succeeded(count):
    return lambda: Job.objects.filter(state=State.SUCCEEDED).count() == count


def assert_one_after_the_other(key):
    order = list(Job.objects.filter(concurrency_key=key).order_by("accept_seq").values_list("id", flat=True))
    attempts = list(JobAttempt.objects.filter(job_id__in=order).order_by("started_at"))
    assert [attempt.job_id for attempt in attempts if attempt.outcome == "succeed"] == order
    assert all(before.ended_at <= after.started_at for before, after in pairwise(attempts))


def test_concurrency_queues_run_in_parallel_and_each_in_order(stack):
    tenant = TenantFactory()
    for _ in range(10):
        for key in ("a", "b", "c"):
            submit(tenant, key)
    until_true(stack, all_succeeded(30))
    for key in ("a", "b", "c"):
        assert_one_after_the_other(key)
    until(lambda: not messages(), seconds=30, pause_seconds=POLL_SECONDS)


def test_a_concurrency_queue_continues_after_its_worker_was_killed(stack):
    tenant = TenantFactory()
    first, *_ = [submit(tenant, "a", seconds=1) for _ in range(3)]
    until_true(stack, lambda: Job.objects.get(pk=first.id).state == State.RUNNING)
    stack.kill("worker")
    stack.start_workers("worker")
    until_true(stack, all_succeeded(3))
    assert_one_after_the_other("a")
    assert [attempt.outcome for attempt in first.attempts.order_by("number")] == ["expire", "succeed"]
