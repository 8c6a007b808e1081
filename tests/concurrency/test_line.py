"""The line of a concurrency key: entered in the order of commits, and moved on by whoever leaves its head."""

from __future__ import annotations

import queue
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from itertools import pairwise
from threading import Event

import pytest
from django.conf import settings
from django.db import connection, transaction

from broker import hints
from jobs import transitions
from jobs.models import Job, JobAttempt
from jobs.payloads import encode_payload
from jobs.queries.sweep import mark_published
from jobs.services import cancel_job, redrive_job
from jobs.states import State
from tests.support.factories import TenantFactory, backdate, claim, make_due, queued_job
from tests.support.row_locks import locked, until_waiting
from tests.support.scenarios import HOUR, ZERO, begin, write
from tests.support.threads import at_once

pytestmark = pytest.mark.django_db(transaction=True)

GRACE = timedelta(seconds=settings.PUBLISH_GRACE_SECONDS)


@pytest.fixture
def tenant(transactional_db):
    return TenantFactory()


@pytest.fixture
def announced(monkeypatch):
    """Return the ids of all hints that are published from now on."""
    published = []
    monkeypatch.setattr(hints, "publish_new_hints", lambda due: published.extend(job.id for job in due))
    return published


def line_up(tenant, count, *, key="account-1", **options):
    return [queued_job(tenant, concurrency_key=key, **options) for _ in range(count)]


def try_to_claim(job_id):
    return transitions.claim_job(job_id=job_id, worker="w", known_operations=["test.scripted@1"])


# --- Entering ----------------------------------------------------------------------------------------------------------


def entering(tenant, *, key="account-1", then=None):
    """A transaction that submits a job, and commits it only `then`."""

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


def test_who_commits_first_stands_first(tenant):
    """A number that was drawn first and committed last would pass a job that has been seen, or claimed, already."""
    entered, go = Event(), Event()

    def dawdle():
        entered.set()
        assert go.wait(20)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(entering(tenant, then=dawdle))
        assert entered.wait(20)
        second = pool.submit(entering(tenant))
        until_waiting(1)
        assert not Job.objects.exists()
        go.set()
        assert first.result(20).accept_seq < second.result(20).accept_seq


@pytest.mark.parametrize("other", ["key", "tenant", "mode"])
def test_nobody_waits_to_enter_another_line(tenant, other):
    beside = {
        "key": lambda: queued_job(tenant, concurrency_key="account-2"),
        "tenant": lambda: queued_job(TenantFactory(), concurrency_key="account-1"),
        "mode": lambda: queued_job(tenant, concurrency_key="account-1", mode="live"),
    }[other]
    entered, go = Event(), Event()

    def dawdle():
        entered.set()
        assert go.wait(20)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(entering(tenant, then=dawdle))
        assert entered.wait(20)
        assert beside().accept_seq > 0
        go.set()
        first.result(20)


def test_a_redriven_job_enters_as_any_other(tenant):
    (job,) = line_up(tenant, 1)
    held = claim(job.id)
    transitions.fail_job(job_id=held.id, attempt=1, detail="no", cause="no")
    entered, go = Event(), Event()

    def dawdle():
        entered.set()
        assert go.wait(20)

    def redrive():
        try:
            return redrive_job(tenant_id=tenant.id, mode="test", job_id=job.id)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(entering(tenant, then=dawdle))
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


def lapse(job):
    write(job.id, "deadline_at = clock_timestamp()")
    return transitions.fail_past_deadline(job_id=job.id)


def doubt(job):
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


FROM_RUNNING = {
    "succeed": lambda job: transitions.succeed_job(**hold(job), result=encode_payload(None)),
    "fail": lambda job: transitions.fail_job(**hold(job), detail="no", cause="no"),
    "canceled": lambda job: transitions.stop_canceled_job(**hold(job)),
    "doubt": doubt,
    "the end of retries": exhaust,
    "a retry that was canceled": retry_canceled,
    "the end of expiries": expire,
}
STANDS_STILL = {
    "retry": lambda job: transitions.retry_job(**hold(job), delay=HOUR, detail="no", cause="test"),
    "postpone": lambda job: transitions.postpone_job(**hold(job), delay=HOUR, detail="no"),
    "expire": partial(expire, attempts_left=1),
}


def tire(job):
    """The job as the sweeper left it after many publications that nobody could claim: its next one is far away."""
    return write(job.id, "publications = 9, next_publish_at = clock_timestamp() + interval '1 hour'")


def is_told(job, announced):
    """A hint of the job is published, and the sweep publishes another if that one is lost."""
    after = Job.objects.get(pk=job.id)
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        now = cursor.fetchone()[0]
    assert announced == [job.id]
    assert after.publications == 0
    assert now < after.next_publish_at <= now + GRACE
    return True


@pytest.mark.parametrize("end", FROM_RUNNING.values(), ids=FROM_RUNNING)
def test_whoever_stops_running_for_good_tells_the_next(tenant, announced, end):
    first, second, third = line_up(tenant, 3)
    held = claim(first.id)
    tire(second)
    announced.clear()
    end(held)
    assert is_told(second, announced)
    assert claim(second.id).state == State.RUNNING
    assert try_to_claim(third.id) is None


@pytest.mark.parametrize("end", [cancel, lapse], ids=["cancel", "lapse"])
def test_whoever_leaves_the_head_without_running_tells_the_next(tenant, announced, end):
    first, second, _ = line_up(tenant, 3)
    tire(second)
    announced.clear()
    end(first)
    assert is_told(second, announced)
    assert claim(second.id).state == State.RUNNING


@pytest.mark.parametrize("end", [cancel, lapse], ids=["cancel", "lapse"])
def test_while_somebody_runs_nobody_is_told(tenant, announced, end):
    first, second, _ = line_up(tenant, 3)
    claim(first.id)
    announced.clear()
    end(second)
    assert announced == []


@pytest.mark.parametrize("pause", STANDS_STILL.values(), ids=STANDS_STILL)
def test_whoever_runs_again_later_tells_nobody(tenant, announced, pause):
    first, second = line_up(tenant, 2)
    held = claim(first.id)
    announced.clear()
    assert pause(held).state == State.QUEUED
    assert announced == []
    assert try_to_claim(second.id) is None


def test_one_that_has_become_due_meanwhile_goes_before_a_later_one_that_runs_again(tenant, announced):
    first, second = line_up(tenant, 2)
    write(first.id, "run_at = clock_timestamp() + interval '1 hour'")
    held = claim(second.id)
    tire(make_due(first.id))
    announced.clear()
    STANDS_STILL["retry"](held)
    assert is_told(first, announced)
    assert claim(first.id).state == State.RUNNING


def test_one_that_is_not_due_is_passed_by(tenant, announced):
    first, second, third = line_up(tenant, 3)
    held = claim(first.id)
    write(second.id, "run_at = clock_timestamp() + interval '1 hour'")
    announced.clear()
    FROM_RUNNING["succeed"](held)
    assert is_told(third, announced)
    assert claim(third.id).state == State.RUNNING


def test_one_that_backs_off_holds_up_those_behind_it(tenant, announced):
    first, second, third = line_up(tenant, 3)
    STANDS_STILL["retry"](claim(first.id))
    announced.clear()
    cancel(second)
    assert announced == []
    assert try_to_claim(third.id) is None


def test_the_last_of_a_line_tells_nobody(tenant, announced):
    (only,) = line_up(tenant, 1)
    line_up(tenant, 1, key="account-2")
    queued_job(tenant)
    held = claim(only.id)
    announced.clear()
    FROM_RUNNING["succeed"](held)
    assert announced == []


def test_an_end_that_is_undone_tells_nobody(tenant, announced):
    first, second = line_up(tenant, 2)
    held = claim(first.id)
    before = tire(second)
    announced.clear()
    with transaction.atomic():
        FROM_RUNNING["succeed"](held)
        transaction.set_rollback(True)
    assert announced == []
    assert Job.objects.get(pk=second.id).next_publish_at == before.next_publish_at


def test_a_next_that_was_never_told_is_published_by_the_sweeper(tenant):
    """As after a death between the commit and the publication: the row is its own outbox."""
    first, second = line_up(tenant, 2)
    FROM_RUNNING["succeed"](claim(first.id))
    backdate(second.id, next_publish_at=HOUR)
    due = mark_published(queue="default", limit=10, grace=GRACE, longest=HOUR).due
    assert [job.id for job in due] == [second.id]
    assert claim(second.id).state == State.RUNNING


def test_a_row_that_somebody_holds_is_not_waited_for(tenant):
    """To wait for it with one's own row in hand is how two who leave at once would block each other."""
    first, second = line_up(tenant, 2)
    held = claim(first.id)
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '5s'")  # to fail, rather than to wait for ever
    with locked(second):
        assert FROM_RUNNING["succeed"](held).state == State.SUCCEEDED
    connection.close()
    assert claim(second.id).state == State.RUNNING


def test_a_crash_of_the_one_that_runs_does_not_stop_the_line(tenant, announced):
    first, second = line_up(tenant, 2)
    for _ in range(3):
        held = claim(make_due(first.id).id)
        assert try_to_claim(second.id) is None
        backdate(held.id, lease_expires_at=HOUR)
        announced.clear()
        transitions.expire_job(**hold(held), delay=ZERO)
    assert Job.objects.get(pk=first.id).state == State.FAILED
    assert announced == [second.id]
    assert claim(second.id).state == State.RUNNING


# --- Many at once ------------------------------------------------------------------------------------------------------


class Broker:
    """Hands out every announced id to whoever asks, and what is left over to those who find nothing: a sweeper at once."""

    def __init__(self):
        self.ids = queue.Queue()

    def publish_new_hints(self, due):
        for job in due:
            self.ids.put(job.id)

    def take(self):
        try:
            return [self.ids.get(timeout=0.05)]
        except queue.Empty:
            return list(Job.objects.filter(state=State.QUEUED).order_by("?").values_list("id", flat=True))


@pytest.fixture
def broker(monkeypatch):
    broker = Broker()
    monkeypatch.setattr(hints, "publish_new_hints", broker.publish_new_hints)
    return broker


def test_many_workers_run_many_lines_in_order_one_at_a_time_and_never_block_each_other(tenant, broker):
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
                # Some need a second attempt, at once; some fail.
                if done % 4 == 0 and held.attempt == 1:
                    transitions.retry_job(**hold(held), delay=ZERO, detail="again", cause="test")
                else:
                    FROM_RUNNING["fail" if done % 5 == 0 else "succeed"](held)
        return number

    def disturb():
        for job_id in canceled:
            cancel_job_if_it_waits(tenant, job_id)

    workers = [partial(work, number) for number in range(6)]
    assert at_once(*workers, disturb) == [*range(6), None]
    assert set(Job.objects.values_list("state", flat=True)) <= {
        State.SUCCEEDED,
        State.FAILED,
        State.CANCELED,
    }
    for key in keys:
        assert runs_in_order(key)


def cancel_job_if_it_waits(tenant, job_id):
    transitions.cancel_queued_job(job_id=job_id)


def runs_in_order(key):
    """The attempts of the key's jobs, as they began: none before the end of the one before, none out of its place."""
    line = list(Job.objects.filter(concurrency_key=key).order_by("accept_seq").values_list("id", flat=True))
    attempts = list(JobAttempt.objects.filter(job_id__in=line).order_by("started_at"))
    for before, after in pairwise(attempts):
        assert before.ended_at <= after.started_at
    places = [line.index(attempt.job_id) for attempt in attempts]
    assert places == sorted(places)
    return True


def test_jobs_that_are_accepted_at_once_and_run_at_once_keep_their_line(tenant, broker):
    """Accepts, claims and ends of one line, all together."""

    def submit():
        for _ in range(6):
            with transaction.atomic():
                queued_job(tenant, concurrency_key="a")

    def work():
        while Job.objects.filter(state=State.SUCCEEDED).count() < 18:
            for job_id in broker.take():
                held = try_to_claim(job_id)
                if held is not None:
                    FROM_RUNNING["succeed"](held)

    assert at_once(submit, submit, submit, work, work, work) == [None] * 6
    assert runs_in_order("a")
