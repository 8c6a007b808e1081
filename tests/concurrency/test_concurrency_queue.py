"""A concurrency queue is entered in the order of commits; jobs behind the first are held, and who leaves releases the next."""

from __future__ import annotations

import queue
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from threading import Event

import pytest
from django.db import connection, transaction

from broker.publisher import publisher
from jobs import transitions
from jobs.models import Job, JobAttempt
from jobs.payloads import encode_payload
from jobs.queries.held import hold_blocked
from jobs.queries.sweep import find_due
from jobs.services import cancel_job, redrive_job
from jobs.states import State
from tests.support.factories import TenantFactory, backdate, claim, make_due, queued_job
from tests.support.row_locks import locked, until_waiting
from tests.support.scenarios import HOUR, ZERO, begin, write
from tests.support.threads import at_once

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def tenant(transactional_db):
    return TenantFactory()


@pytest.fixture
def published(monkeypatch):
    """Return the ids of all jobs that a hint makes due now, from now on."""
    published = []

    def publish_hint(due):
        if due.in_seconds == 0:
            published.append(due.id)

    monkeypatch.setattr(publisher, "publish_hint", publish_hint)
    return published


def queue_up(tenant, count, *, key="account-1", **options):
    return [queued_job(tenant, concurrency_key=key, **options) for _ in range(count)]


def try_to_claim(job_id):
    return transitions.claim_job(job_id=job_id, worker="w", known_operations=["test.scripted@1"])


# --- Entering ----------------------------------------------------------------------------------------------------------


def entering(tenant, *, key="account-1", then=None):
    """Return a function that submits a job in a transaction and calls `then` before the commit."""

    def enter():
        try:
            with transaction.atomic():
                job = queued_job(tenant, concurrency_key=key)
                if then is not None:
                    then()
            return job
        finally:
            connection.close()

    return enter


def test_jobs_are_ordered_by_their_commits(tenant):
    """A number that is drawn first and committed last would go before a job that may have been claimed already."""
    entered, go = Event(), Event()

    def wait():
        entered.set()
        assert go.wait(20)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(entering(tenant, then=wait))
        assert entered.wait(20)
        second = pool.submit(entering(tenant))
        until_waiting(1)
        assert not Job.objects.exists()
        go.set()
        assert first.result(20).accept_seq < second.result(20).accept_seq


@pytest.mark.parametrize("other", ["key", "tenant", "mode"])
def test_a_job_enters_another_queue_without_waiting(tenant, other):
    beside = {
        "key": lambda: queued_job(tenant, concurrency_key="account-2"),
        "tenant": lambda: queued_job(TenantFactory(), concurrency_key="account-1"),
        "mode": lambda: queued_job(tenant, concurrency_key="account-1", mode="live"),
    }[other]
    entered, go = Event(), Event()

    def wait():
        entered.set()
        assert go.wait(20)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(entering(tenant, then=wait))
        assert entered.wait(20)
        assert beside().accept_seq > 0
        go.set()
        first.result(20)


def test_a_redriven_job_enters_in_the_order_of_commits(tenant):
    (job,) = queue_up(tenant, 1)
    held = claim(job.id)
    transitions.fail_job(job_id=held.id, attempt=1, detail="no", cause="no")
    entered, go = Event(), Event()

    def wait():
        entered.set()
        assert go.wait(20)

    def redrive():
        try:
            return redrive_job(tenant_id=tenant.id, mode="test", job_id=job.id)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(entering(tenant, then=wait))
        assert entered.wait(20)
        again = pool.submit(redrive)
        until_waiting(1)
        go.set()
        assert first.result(20).accept_seq < again.result(20).accept_seq


# --- Leaving -----------------------------------------------------------------------------------------------------------


def hold(job):
    return {"job_id": job.id, "attempt": job.attempt}


def cancel(job):
    return cancel_job(tenant_id=job.tenant_id, mode="test", job_id=job.id)


def pass_deadline(job):
    write(job.id, "deadline_at = clock_timestamp()")
    return transitions.fail_past_deadline(job_id=job.id)


def become_unknown(job):
    begin(job, "charge")
    return transitions.stop_as_unknown(**hold(job), detail="who knows")


def exhaust(job):
    write(job.id, "attempts_left = 0")
    return transitions.retry_job(**hold(job), delay=HOUR, detail="no", cause="test")


def expire(job, *, attempts_left=0):
    write(job.id, f"attempts_left = {attempts_left}")
    backdate(job.id, lease_expires_at=HOUR)
    return transitions.expire_job(**hold(job), delay=HOUR)


def retry_canceled(job):
    cancel(job)
    return transitions.retry_job(**hold(job), delay=HOUR, detail="no", cause="test")


ENDS = {
    "succeed": lambda job: transitions.succeed_job(**hold(job), result=encode_payload(None)),
    "fail": lambda job: transitions.fail_job(**hold(job), detail="no", cause="no"),
    "canceled": lambda job: transitions.stop_canceled_job(**hold(job)),
    "outcome unknown": become_unknown,
    "last retry": exhaust,
    "retry after a cancel request": retry_canceled,
    "last expiry": expire,
}
QUEUES_AGAIN = {
    "retry": lambda job: transitions.retry_job(**hold(job), delay=HOUR, detail="no", cause="test"),
    "postpone": lambda job: transitions.postpone_job(**hold(job), delay=HOUR, detail="no"),
    "expire": partial(expire, attempts_left=1),
}


def is_held(job):
    return Job.objects.get(pk=job.id).held


def is_announced(job, published):
    """Whether the job is released, and a hint of it was published."""
    assert published == [job.id]
    assert not is_held(job)
    return True


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_job_that_stops_running_makes_the_next_one_due(tenant, published, end):
    first, second, third = queue_up(tenant, 3)
    held = claim(first.id)
    assert is_held(second)
    published.clear()
    end(held)
    assert is_announced(second, published)
    assert claim(second.id).state == State.RUNNING
    assert try_to_claim(third.id) is None


@pytest.mark.parametrize("end", [cancel, pass_deadline], ids=["cancel", "deadline"])
def test_a_job_that_leaves_the_head_without_running_makes_the_next_one_due(tenant, published, end):
    first, second, _ = queue_up(tenant, 3)
    assert is_held(second)
    published.clear()
    end(first)
    assert is_announced(second, published)
    assert claim(second.id).state == State.RUNNING


@pytest.mark.parametrize("end", [cancel, pass_deadline], ids=["cancel", "deadline"])
def test_no_hint_is_published_while_a_job_of_the_queue_runs(tenant, published, end):
    first, second, _ = queue_up(tenant, 3)
    claim(first.id)
    published.clear()
    end(second)
    assert published == []


@pytest.mark.parametrize("pause", QUEUES_AGAIN.values(), ids=QUEUES_AGAIN)
def test_a_job_that_is_queued_again_keeps_the_next_one_blocked(tenant, published, pause):
    first, second = queue_up(tenant, 2)
    held = claim(first.id)
    published.clear()
    assert pause(held).state == State.QUEUED
    assert published == []
    assert try_to_claim(second.id) is None


def test_an_earlier_job_that_has_become_due_goes_before_a_retry(tenant, published):
    first, second = queue_up(tenant, 2)
    write(first.id, "run_at = clock_timestamp() + interval '1 hour'")
    held = claim(second.id)
    make_due(first.id)
    assert hold_blocked([first.id]) == 1
    published.clear()
    QUEUES_AGAIN["retry"](held)
    assert is_announced(first, published)
    assert claim(first.id).state == State.RUNNING


def test_a_job_that_is_not_due_is_passed_over(tenant, published):
    first, second, third = queue_up(tenant, 3)
    held = claim(first.id)
    write(second.id, "run_at = clock_timestamp() + interval '1 hour'")
    published.clear()
    ENDS["succeed"](held)
    assert is_announced(third, published)
    assert claim(third.id).state == State.RUNNING


def test_a_job_that_backs_off_blocks_those_behind_it(tenant, published):
    first, second, third = queue_up(tenant, 3)
    QUEUES_AGAIN["retry"](claim(first.id))
    published.clear()
    cancel(second)
    assert published == []
    assert try_to_claim(third.id) is None


def test_the_last_job_of_a_queue_publishes_no_hint(tenant, published):
    (only,) = queue_up(tenant, 1)
    queue_up(tenant, 1, key="account-2")
    queued_job(tenant)
    held = claim(only.id)
    published.clear()
    ENDS["succeed"](held)
    assert published == []


def test_an_end_that_is_rolled_back_publishes_no_hint(tenant, published):
    first, second = queue_up(tenant, 2)
    held = claim(first.id)
    published.clear()
    with transaction.atomic():
        ENDS["succeed"](held)
        transaction.set_rollback(True)
    assert published == []
    assert is_held(second)


def test_the_sweeper_publishes_a_next_job_whose_hint_was_lost(tenant):
    """As after a crash between the commit and the publication: the row is its own outbox."""
    first, second = queue_up(tenant, 2)
    ENDS["succeed"](claim(first.id))
    due = find_due(["default"], limit=10, ahead=ZERO)
    assert [job.id for job in due] == [second.id]
    assert claim(second.id).state == State.RUNNING


def test_an_end_waits_for_a_locked_next_job_and_releases_it(tenant):
    """A next job that was left out because somebody had locked its row would stay held."""
    first, second = queue_up(tenant, 2)
    held = claim(first.id)
    with ThreadPoolExecutor(1) as pool:
        with locked(second):
            ended = pool.submit(_close_after, partial(ENDS["succeed"], held))
            until_waiting(1)
        assert ended.result(20).state == State.SUCCEEDED
    assert not is_held(second)
    assert claim(second.id).state == State.RUNNING


def _close_after(action):
    try:
        return action()
    finally:
        connection.close()


def test_jobs_that_leave_at_once_do_not_deadlock_and_leave_nobody_held(tenant):
    """Each end looks at the next job's row while its own is locked."""
    first, *others, last = queue_up(tenant, 8)
    held = claim(first.id)
    leaving = [partial(cancel, job) for job in others]
    at_once(partial(ENDS["succeed"], held), *leaving)
    assert Job.objects.filter(state=State.QUEUED).count() == 1
    assert not is_held(last)
    assert claim(last.id).state == State.RUNNING


def test_a_crash_of_the_running_job_does_not_stop_the_queue(tenant, published):
    first, second = queue_up(tenant, 2)
    for _ in range(3):
        held = claim(make_due(first.id).id)
        assert try_to_claim(second.id) is None
        backdate(held.id, lease_expires_at=HOUR)
        published.clear()
        transitions.expire_job(**hold(held), delay=ZERO)
    assert Job.objects.get(pk=first.id).state == State.FAILED
    assert published == [second.id]
    assert claim(second.id).state == State.RUNNING


# --- Many at once ------------------------------------------------------------------------------------------------------


class Broker:
    """Hand out each published id once; a worker that finds none gets all queued jobs, as from a sweep."""

    def __init__(self):
        self.ids = queue.Queue()

    def publish_hint(self, due):
        self.ids.put(due.id)

    def take(self):
        try:
            return [self.ids.get(timeout=0.05)]
        except queue.Empty:
            return list(Job.objects.filter(state=State.QUEUED).order_by("?").values_list("id", flat=True))


@pytest.fixture
def broker(monkeypatch):
    broker = Broker()
    monkeypatch.setattr(publisher, "publish_hint", broker.publish_hint)
    return broker


def test_many_workers_run_each_queue_in_order_one_job_at_a_time_without_a_deadlock(tenant, broker):
    keys = ["a", "b", "c"]
    jobs = [queued_job(tenant, concurrency_key=key) for _ in range(12) for key in keys]
    canceled = [job.id for job in jobs[7::9]]

    def work(number):
        done = 0
        while Job.objects.filter(state__in=[State.QUEUED, State.RUNNING]).exists():
            for job_id in broker.take():
                held = try_to_claim(job_id)
                if held is None:
                    continue
                done += 1
                # Some need a second attempt at once; some fail.
                if done % 4 == 0 and held.attempt == 1:
                    transitions.retry_job(**hold(held), delay=ZERO, detail="again", cause="test")
                else:
                    ENDS["fail" if done % 5 == 0 else "succeed"](held)
        return number

    def disturb():
        for job_id in canceled:
            cancel_queued(tenant, job_id)

    workers = [partial(work, number) for number in range(6)]
    assert at_once(*workers, disturb) == [*range(6), None]
    assert set(Job.objects.values_list("state", flat=True)) <= {State.SUCCEEDED, State.FAILED, State.CANCELED}
    for key in keys:
        assert runs_in_order(key)


def cancel_queued(tenant, job_id):
    transitions.cancel_queued_job(job_id=job_id)


def runs_in_order(key):
    """Whether the attempts of the key's jobs did not overlap and began in the order of the queue."""
    order = list(Job.objects.filter(concurrency_key=key).order_by("accept_seq").values_list("id", flat=True))
    attempts = list(JobAttempt.objects.filter(job_id__in=order).order_by("started_at"))
    for before, after in pairwise(attempts):
        assert before.ended_at <= after.started_at
    places = [order.index(attempt.job_id) for attempt in attempts]
    assert places == sorted(places)
    return True


def test_jobs_that_are_accepted_and_run_at_once_keep_their_order(tenant, broker):
    """Accepts, claims and ends of one queue run concurrently."""

    def submit():
        for _ in range(6):
            with transaction.atomic():
                queued_job(tenant, concurrency_key="a")

    def work():
        while Job.objects.filter(state=State.SUCCEEDED).count() < 18:
            for job_id in broker.take():
                held = try_to_claim(job_id)
                if held is not None:
                    ENDS["succeed"](held)

    assert at_once(submit, submit, submit, work, work, work) == [None] * 6
    assert runs_in_order("a")
