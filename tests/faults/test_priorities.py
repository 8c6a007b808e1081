"""A worker that finds messages in every queue takes high priority first, and starves no queue."""

from __future__ import annotations

import pytest
import redis
from django.conf import settings

from broker.publisher import publisher
from jobs.models import Job, Priority
from jobs.registry import current_operation
from jobs.states import State
from jobs.submission import Submission, submit_job
from tests.support.factories import TenantFactory
from tests.support.stack import POLL_SECONDS, running_stack
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def stack(transactional_db, tmp_path):
    # One job at a time, and one job a message: the message taken first starts first.
    with running_stack(tmp_path, WORKER_PROCESSES="1", BACKLOG_SECONDS="0.000001") as stack:
        yield stack


def backlog(priority, count):
    """Queue this many jobs of the priority, before the worker starts."""
    tenant = TenantFactory()
    submission = Submission(operation=current_operation("demo.sleep"), params={"seconds": 0}, priority=priority)
    for _ in range(count):
        submit_job(tenant_id=tenant.id, mode="test", submission=submission)
    assert publisher.flush(seconds=20.0)
    with redis.Redis.from_url(settings.REDIS_URL) as broker:
        assert broker.llen(priority.name.lower()) == count


def begun(stack, count):
    """Return the priorities of the jobs in the order in which they started, once all have succeeded."""
    ended = Job.objects.filter(state=State.SUCCEEDED)
    try:
        until(lambda: ended.count() == count, seconds=90, pause_seconds=POLL_SECONDS)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{stack.logs()}") from None
    return [Priority(job.priority) for job in ended.order_by("started_at")]


def test_high_jobs_start_before_earlier_jobs_of_lower_priority(stack):
    for priority in (Priority.LOW, Priority.DEFAULT, Priority.HIGH):
        backlog(priority, 3)
    stack.start_workers("worker")
    assert begun(stack, 9) == [Priority.HIGH] * 3 + [Priority.DEFAULT] * 3 + [Priority.LOW] * 3


def test_a_low_job_does_not_wait_for_the_end_of_the_high_ones(stack):
    backlog(Priority.LOW, 1)
    backlog(Priority.DEFAULT, 1)
    backlog(Priority.HIGH, 30)
    stack.start_workers("worker")
    order = begun(stack, 32)
    assert (order.index(Priority.DEFAULT), order.index(Priority.LOW)) == (9, 19)
