"""A hint makes a worker run the job that it names, and then the backlog of its queue."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import OperationalError, connection

from broker.hints import DueJob
from jobs import transitions
from jobs.models import Job, JobAttempt
from jobs.operations import PermanentError, RetryableError
from jobs.queries import claim as queries
from jobs.queries.concurrency_queue import NOT_BLOCKED
from jobs.states import State
from operators import pauses
from tests.support.factories import TenantFactory, claim, claimed_job, make_due, queued_job
from tests.support.scenarios import HOUR, history, outcomes, write
from workers import backlog, shutdown
from workers.backlog import run_hint
from workers.tasks import run_job

pytestmark = pytest.mark.django_db

QUEUE = "default"


@pytest.fixture(autouse=True)
def _first_search():
    """Begin each test as a new process does."""
    backlog._places.clear()
    yield
    backlog._places.clear()


@pytest.fixture
def ran(script):
    """Return a function that queues jobs, and the numbers of those that ran, in order."""
    numbers = []

    def queue(tenant, count=1, **options):
        first = len(jobs)
        for number in range(first, first + count):
            name = script(lambda _job, number=number: numbers.append(number))
            jobs.append(queued_job(tenant, script=name, **options))
        return jobs[first:]

    jobs = []
    queue.numbers = numbers
    return queue


def state_of(job):
    return Job.objects.get(pk=job.id).state


def test_a_hint_runs_its_job_and_then_all_others_of_the_queue_in_the_order_in_which_they_became_due(
    tenant, ran, hinted
):
    jobs = ran(tenant, 5)
    hinted.clear()
    run_job(str(jobs[3].id), QUEUE)
    assert ran.numbers == [3, 0, 1, 2, 4]
    assert {state_of(job) for job in jobs} == {State.SUCCEEDED}
    assert all(outcomes(job.id) == ["succeed"] for job in jobs)
    assert all(history(job.id) == ["submit", "claim", "succeed"] for job in jobs)
    assert hinted == []


def test_a_hint_of_another_queue_does_not_run_the_backlog(tenant, ran):
    (high,) = ran(tenant)
    write(high.id, "queue = 'high'")
    ran(tenant, 2)
    run_job(str(high.id), "high")
    assert ran.numbers == [0]


@pytest.mark.parametrize("named", ["ended", "running", "not due", "gone"])
def test_a_hint_whose_job_cannot_be_claimed_helps_with_the_backlog(tenant, ran, named):
    other = {
        "ended": lambda: transitions.cancel_queued_job(job_id=queued_job(tenant).id).id,
        "running": lambda: claimed_job(tenant).id,
        "not due": lambda: write(queued_job(tenant).id, "run_at = clock_timestamp() + interval '1 hour'").id,
        "gone": uuid4,
    }[named]()
    ran(tenant, 2)
    run_hint(other, QUEUE)
    assert ran.numbers == [0, 1]


def test_two_hints_of_one_job_run_it_once(tenant, ran):
    (job,) = ran(tenant)
    for _ in range(2):
        run_hint(job.id, QUEUE)
    assert ran.numbers == [0]
    assert history(job.id) == ["submit", "claim", "succeed"]


def test_a_hint_without_anything_due_does_nothing(tenant, hinted):
    run_hint(uuid4(), QUEUE)
    assert hinted == []


def test_a_worker_whose_time_is_over_leaves_a_hint_of_the_next_job(tenant, ran, hinted, settings):
    settings.BACKLOG_SECONDS = 0.0
    first, second, _ = ran(tenant, 3)
    hinted.clear()
    run_hint(first.id, QUEUE)
    assert ran.numbers == [0]
    assert hinted == [DueJob(second.id, QUEUE)]


def test_a_worker_whose_time_is_over_leaves_no_hint_if_nothing_is_due(tenant, ran, hinted, settings):
    settings.BACKLOG_SECONDS = 0.0
    (job,) = ran(tenant)
    write(ran(tenant)[0].id, "run_at = clock_timestamp() + interval '1 hour'")
    hinted.clear()
    run_hint(job.id, QUEUE)
    assert hinted == []


def test_a_worker_that_shuts_down_claims_no_more_and_leaves_a_hint(tenant, ran, hinted, script):
    stop = queued_job(tenant, script=script(lambda _job: shutdown.announce_shutdown()))
    (other,) = ran(tenant)
    hinted.clear()
    try:
        run_hint(stop.id, QUEUE)
    finally:
        shutdown._flag[0] = 0
    assert state_of(stop) == State.SUCCEEDED
    assert ran.numbers == []
    assert hinted == [DueJob(other.id, QUEUE)]


ERRORS = {State.FAILED: PermanentError("no", code="no"), State.QUEUED: RetryableError("later", code="later")}


@pytest.mark.parametrize("state", ERRORS)
def test_a_job_that_does_not_succeed_does_not_end_the_backlog(tenant, ran, script, state, monkeypatch):
    monkeypatch.setattr("workers.backoff.random.uniform", lambda _low, high: high)

    def fail(_job):
        raise ERRORS[state]

    job = queued_job(tenant, script=script(fail))
    ran(tenant, 2)
    run_hint(job.id, QUEUE)
    assert state_of(job) == state
    assert ran.numbers == [0, 1]


def test_a_concurrency_queue_runs_in_its_order_within_one_backlog(tenant, ran):
    ran(tenant, 2, concurrency_key="a")
    ran(tenant)
    ran(tenant, 2, concurrency_key="a")
    jobs = list(Job.objects.order_by("accept_seq"))
    run_hint(jobs[0].id, QUEUE)
    assert sorted(ran.numbers) == [0, 1, 2, 3, 4]
    assert [number for number in ran.numbers if number != 2] == [0, 1, 3, 4]


def test_a_stale_attempt_does_not_lose_the_job_that_was_claimed_with_its_settle(tenant, ran, script):
    def lose(job):
        write(job.id, "lease_expires_at = clock_timestamp() - interval '1 hour'")
        transitions.expire_job(job_id=job.id, attempt=1, delay=HOUR)

    stale = queued_job(tenant, script=script(lose))
    ran(tenant, 2)
    run_hint(stale.id, QUEUE)
    assert outcomes(stale.id) == ["expire"]
    assert ran.numbers == [0, 1]


def test_an_open_effect_is_retried_and_the_job_that_was_claimed_with_its_settle_runs(tenant, ran, script):
    def leave_open(job):
        write(job.id, "open_effects = 1")

    job = queued_job(tenant, script=script(leave_open))
    ran(tenant)
    run_hint(job.id, QUEUE)
    assert outcomes(job.id) == ["retry"]
    assert ran.numbers == [0]


@pytest.mark.django_db(transaction=True)
def test_a_claim_that_meets_a_running_job_of_its_key_leaves_the_settle_alone(ran, monkeypatch):
    """As when another worker claims a job of the same concurrency key in the same instant: the unique index refuses one."""
    tenant = TenantFactory()
    (first,) = ran(tenant)
    running = claim(queued_job(tenant, concurrency_key="a").id)
    (behind,) = ran(tenant, concurrency_key="a")
    write(behind.id, "held = FALSE")
    monkeypatch.setattr(
        "jobs.transitions.succeed_and_claim_next", _without_the_guard(transitions.succeed_and_claim_next)
    )
    run_hint(first.id, QUEUE)
    assert history(first.id) == ["submit", "claim", "succeed"]
    assert state_of(behind) == State.QUEUED
    assert state_of(running) == State.RUNNING


def _without_the_guard(function):
    """Return the function with a statement that claims blocked jobs, too."""

    def call(**values):
        before = queries.SUCCEED_AND_CLAIM_NEXT
        queries.SUCCEED_AND_CLAIM_NEXT = before.replace(NOT_BLOCKED, "TRUE")
        try:
            return function(**values)
        finally:
            queries.SUCCEED_AND_CLAIM_NEXT = before

    return call


def test_a_paused_or_unknown_job_is_passed_over_before_the_sweep_holds_it(tenant, ran):
    other = TenantFactory()
    ran(other)
    unknown = ran(tenant)[0]
    write(unknown.id, "operation_version = 9")
    ran(tenant)
    pauses.pause(tenant_id=other.id, actor="user ada", note="a test")
    run_hint(uuid4(), QUEUE)
    assert ran.numbers == [2]


@pytest.mark.django_db(transaction=True)
def test_a_lost_connection_at_the_settle_is_retried_and_the_backlog_goes_on(ran, script):
    tenant = TenantFactory()
    job = queued_job(tenant, script=script(lambda _job: _cut_connection()))
    ran(tenant, 2)
    run_hint(job.id, QUEUE)
    assert history(job.id) == ["submit", "claim", "succeed"]
    assert ran.numbers == [0, 1]


def _cut_connection():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
        try:
            cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
        except OperationalError:
            return


# --- The place of the search -------------------------------------------------------------------------------------------


def searched_from(monkeypatch):
    """Return the list of the bounds of all searches from now on; None: from the beginning."""
    bounds = []
    choose = backlog.Backlog._next

    def noted(self):
        wanted = choose(self)
        bounds.append(None if wanted.due_from == backlog._EARLIEST else wanted.due_from)
        return wanted

    monkeypatch.setattr(backlog.Backlog, "_next", noted)
    return bounds


def test_a_search_begins_at_the_last_job_that_was_found(tenant, ran, monkeypatch):
    jobs = [make_due(job.id) for job in ran(tenant, 3)]
    bounds = searched_from(monkeypatch)
    run_hint(uuid4(), QUEUE)
    assert bounds == [None, jobs[0].run_at, jobs[1].run_at, jobs[2].run_at]


def test_a_job_that_is_due_since_before_the_place_is_found_by_the_next_full_search(tenant, ran, monkeypatch):
    ran(tenant)
    run_hint(uuid4(), QUEUE)
    (early,) = ran(tenant)
    make_due(early.id)
    run_hint(uuid4(), QUEUE)
    assert ran.numbers == [0]
    backlog._places[QUEUE].full_search_at = 0.0  # as after a second
    run_hint(uuid4(), QUEUE)
    assert ran.numbers == [0, 1]


def test_a_job_that_is_due_since_before_the_place_is_found_by_its_own_hint(tenant, ran):
    ran(tenant)
    run_hint(uuid4(), QUEUE)
    (early,) = ran(tenant)
    run_hint(make_due(early.id).id, QUEUE)
    assert ran.numbers == [0, 1]


def test_jobs_that_became_due_in_the_same_instant_are_all_found(tenant, ran):
    jobs = ran(tenant, 4)
    Job.objects.filter(pk__in=[job.id for job in jobs]).update(run_at=jobs[0].run_at)
    run_hint(uuid4(), QUEUE)
    assert sorted(ran.numbers) == [0, 1, 2, 3]


# --- Round trips -------------------------------------------------------------------------------------------------------


def test_each_further_job_of_a_backlog_takes_one_statement(tenant, ran, django_assert_num_queries):
    jobs = ran(tenant, 10)
    # The claim of the first job, then one statement that settles a job and claims the next.
    with django_assert_num_queries(1 + 10):
        run_hint(jobs[0].id, QUEUE)
    assert len(ran.numbers) == 10
    assert JobAttempt.objects.count() == 10


def test_a_worker_passes_over_a_job_that_another_one_has_locked_and_a_deadline(tenant, ran):
    lapsed = ran(tenant)[0]
    write(lapsed.id, "deadline_at = clock_timestamp() - interval '1 second'")
    ran(tenant)
    run_hint(uuid4(), QUEUE)
    assert ran.numbers == [1]
    assert state_of(lapsed) == State.QUEUED
    run_hint(lapsed.id, QUEUE)
    assert state_of(lapsed) == State.FAILED
    assert timedelta(0) < Job.objects.get(pk=lapsed.id).finished_at - lapsed.created_at
