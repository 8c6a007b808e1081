"""A database connection that is cut during an attempt costs nothing: outcomes are recorded over a new one."""

from __future__ import annotations

import time
from threading import Event

import pytest
from django.db import OperationalError, connection, transaction

from jobs.models import Job
from jobs.payloads import decode_payload
from jobs.queries.events import append_late_effect
from jobs.queries.steps import begin_effect
from jobs.states import State
from tests.support.downstreams import Downstream, run, step_of
from tests.support.factories import claimed_job, queued_job
from tests.support.row_locks import until_waiting
from tests.support.scenarios import HOUR, expire, history, outcomes
from tests.support.threads import TIMEOUT_SECONDS, at_once, begin
from workers.lease import Lease

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _connection(transactional_db):
    """Close the connection that the test has cut."""
    yield
    connection.close()


def cut(*_key):
    """End the server's side of this thread's connection, as a restart of the database does."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()

    def terminate():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
            return cursor.fetchone()[0]

    assert at_once(terminate) == [True]
    return "done"


def before_the_effect(job, bank):
    cut()
    return job.effect("charge", bank.call) and "done"


def before_progress(job, bank):
    job.effect("charge", bank.call)
    cut()
    job.progress(1, 1)
    return "done"


def in_the_call(job, bank):
    return job.effect("charge", lambda key: cut(bank.call(key)))


def on_a_standby(job, bank):
    """Fail over to a server that is promoted a moment later and refuses writes until then."""

    def call(key):
        charge = bank.call(key)
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = on")
        return charge and "done"

    return job.effect("charge", call)


def before_the_end(job, bank):
    return job.effect("charge", bank.call) and cut()


def in_a_step(job, bank):
    job.effect("charge", bank.call)
    return job.step("count", cut)


def test_evidence_of_a_late_answer_is_kept_although_the_connection_is_cut(tenant, script, monkeypatch):
    def overtaken(_key):
        expire(Job.objects.get(pk=queued.id), delay=HOUR)
        return {"id": "ch_late"}

    def cut_once(**evidence):
        tries.append(evidence)
        if len(tries) == 1:
            cut()
        append_late_effect(**evidence)

    tries = []
    monkeypatch.setattr("workers.effects.append_late_effect", cut_once)
    queued = queued_job(tenant, script=script(lambda handle: handle.effect("charge", overtaken)))
    run(queued.id)
    assert history(queued.id) == ["submit", "claim", "expire", "late-effect"]
    assert len(tries) == 2


@pytest.mark.parametrize(
    "perform", [in_the_call, on_a_standby, before_the_end, in_a_step, before_the_effect, before_progress]
)
def test_a_connection_cut_within_an_attempt_is_replaced_and_the_attempt_succeeds(tenant, script, perform):
    bank = Downstream("charged", "never")
    job = run(queued_job(tenant, script=script(lambda handle: perform(handle, bank))).id)
    assert (job.state, decode_payload(job.result)) == (State.SUCCEEDED, "done")
    assert (job.open_effects, job.done_effects) == (0, 1)
    assert (len(bank.calls), step_of(job).state) == (1, "done")
    assert history(job.id) == ["submit", "claim", "succeed"]
    assert outcomes(job.id) == ["succeed"]


def test_the_answer_from_before_the_cut_is_recorded(tenant, script):
    """The recorded result is the downstream's own, not only the state `done`."""
    job = run(
        queued_job(
            tenant, script=script(lambda job: job.effect("charge", lambda _key: {"id": "ch_1", "cut": cut()}))
        ).id
    )
    assert decode_payload(step_of(job).result) == decode_payload(job.result) == {"id": "ch_1", "cut": "done"}


def test_a_write_whose_commit_is_still_under_way_is_awaited_and_counted_once(tenant):
    job = claimed_job(tenant)
    lease = Lease(job_id=job.id, attempt=job.attempt, time_limit=HOUR, claimed_at=time.monotonic())
    has_written, may_commit = Event(), Event()
    tries = []

    def begin_charge():
        return begin_effect(job_id=job.id, attempt=job.attempt, name="charge", key="k", lease=HOUR, attempt_limit=HOUR)

    def commit_slowly():
        with transaction.atomic():
            begin_charge()
            has_written.set()
            assert may_commit.wait(TIMEOUT_SECONDS)

    def write():
        tries.append("charge")
        if len(tries) == 1:
            raise OperationalError("The connection is gone; its session is about to commit.")
        return begin_charge()

    [committed] = begin(commit_slowly)
    assert has_written.wait(TIMEOUT_SECONDS)
    [insisted] = begin(lambda: lease.retry_write(write))
    until_waiting(1)
    may_commit.set()
    committed()
    assert insisted().key == "k"
    assert len(tries) == 2
    job.refresh_from_db()
    assert (job.open_effects, step_of(job).state) == (1, "started")
