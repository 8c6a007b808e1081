"""A worker that dies, hangs or fails at any point of a job: another attempt continues from the record (I1, I2, I4, I5)."""

from __future__ import annotations

import signal

import psutil
import pytest
from django.conf import settings

from operations.payments.models import Account
from tests.support.operations import BookedCharge
from tests.support.promises import let_messages_be_taken_over
from tests.support.stack import POLL_SECONDS, SHORT_LEASE, START_SECONDS, running_stack
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

# The history of the job that was hit, and the provider's outcome of each call that it received.
LEASE_RAN_OUT = ["submit", "claim", "expire", "claim", "succeed"]
RETRIED = ["submit", "claim", "retry", "claim", "succeed"]
UNTOUCHED = ["submit", "claim", "succeed"]
ONE_CALL, REPEATED = ["charged"], ["charged", "replayed"]
# Processes of a worker, as devstack/services.py starts it.
CONCURRENCY = 2
KEYS = [f"order-{number}" for number in range(4)]


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("worker")
    operations = ",".join(
        [*settings.OPERATIONS, "tests.support.operations.BriefCharge", "tests.support.operations.BookedCharge"]
    )
    env = {**SHORT_LEASE, "OPERATIONS": operations}
    with django_db_blocker.unblock(), running_stack(folder, **env) as stack:
        stack.start_workers("maintenance", "beat")
        stack.start_api()
        yield stack


@pytest.fixture
def doomed(stack):
    """Return a function that starts a worker with this fault point armed. The worker is killed at the end."""

    def start(fault_point):
        stack.start_workers("doomed", FAULT_POINT=fault_point)
        return stack.running["doomed"]

    yield start
    # A worker that took over under that name appends to the same log.
    assert " is reached: " in stack.running["doomed"].log.read_text()
    stack.kill("doomed")


@pytest.mark.parametrize(
    ("point", "history", "calls"),
    [
        ("after_claim", LEASE_RAN_OUT, ONE_CALL),
        ("before_effect", LEASE_RAN_OUT, ONE_CALL),
        ("after_effect", LEASE_RAN_OUT, REPEATED),
        ("after_record", LEASE_RAN_OUT, ONE_CALL),
        ("before_settle", LEASE_RAN_OUT, ONE_CALL),
    ],
)
def test_a_job_whose_process_was_killed_continues_from_its_record(ledger, doomed, point, history, calls):
    # The second job that reaches the point: by then the worker is warm.
    doomed(f"{point}:2:kill")
    for key in KEYS:
        ledger.charge(key)
    jobs = ledger.settle()
    assert {job["state"] for job in jobs.values()} == {"succeeded"}
    hit = the_one_hit(ledger, history)
    assert ledger.effects(hit) == calls
    assert jobs[hit]["attempts_left"] == 3


@pytest.mark.parametrize(("point", "calls"), [("after_claim", ONE_CALL), ("after_effect", REPEATED)])
def test_a_job_whose_worker_was_killed_with_all_its_processes_is_done_by_another(stack, ledger, doomed, point, calls):
    doomed(f"{point}:1:stop")
    ledger.charge("order-0")
    until(lambda: stack.frozen_children("doomed"), seconds=START_SECONDS, pause_seconds=POLL_SECONDS)
    redeliver(stack)
    assert ledger.settle()["order-0"]["state"] == "succeeded"
    assert ledger.history("order-0") == LEASE_RAN_OUT
    assert ledger.effects("order-0") == calls


def test_a_job_whose_process_was_killed_before_its_commit_is_booked_once(ledger, doomed):
    ledger.operation = BookedCharge.name
    doomed("mid_step:2:kill")
    for key in KEYS:
        ledger.charge(key)
    jobs = ledger.settle()
    assert {job["state"] for job in jobs.values()} == {"succeeded"}
    assert ledger.effects(the_one_hit(ledger, LEASE_RAN_OUT)) == ONE_CALL
    account = Account.objects.get(customer=BookedCharge.CUSTOMER)
    assert account.balance == sum(ledger.amounts.values())


@pytest.mark.parametrize(
    ("point", "history", "calls"),
    [
        ("before_claim", UNTOUCHED, ONE_CALL),
        ("after_claim", LEASE_RAN_OUT, ONE_CALL),
        ("before_effect", RETRIED, ONE_CALL),
        ("after_effect", RETRIED, REPEATED),
        ("before_settle", LEASE_RAN_OUT, ONE_CALL),
    ],
)
def test_an_attempt_that_fails_unexpectedly_is_followed_by_another(ledger, doomed, point, history, calls):
    worker = doomed(f"{point}:1:raise")
    ledger.charge("order-0")
    assert ledger.settle()["order-0"]["state"] == "succeeded"
    assert ledger.history("order-0") == history
    assert ledger.effects("order-0") == calls
    until(lambda: "FaultPointReached" in worker.log.read_text(), pause_seconds=POLL_SECONDS)


def test_a_hint_that_was_lost_with_its_process_is_published_again(ledger, doomed):
    worker = doomed("before_claim:1:kill")
    before = until(lambda: all_children_of(worker), seconds=START_SECONDS, pause_seconds=POLL_SECONDS)
    for key in KEYS:
        ledger.charge(key)
    jobs = ledger.settle()
    assert {job["state"] for job in jobs.values()} == {"succeeded"}
    assert {tuple(ledger.history(key)) for key in KEYS} == {tuple(UNTOUCHED)}
    assert len(before & children_of(worker)) == len(before) - 1


def test_a_process_that_hangs_before_its_claim_costs_one_slot_and_no_job(stack, ledger, doomed):
    doomed("before_claim:1:hang")
    for key in KEYS:
        ledger.charge(key)
    jobs = ledger.caller.when_ended(len(KEYS), seconds=60, stack=stack)
    assert {job["state"] for job in jobs} == {"succeeded"}
    # The hanging process's message stays unacknowledged as long as the process lives.
    redeliver(stack)
    ledger.settle()
    assert {tuple(ledger.history(key)) for key in KEYS} == {tuple(UNTOUCHED)}


@pytest.mark.parametrize(
    ("point", "calls"), [("after_claim", ONE_CALL), ("after_effect", REPEATED), ("before_settle", ONE_CALL)]
)
def test_an_attempt_that_hangs_is_killed_with_its_process_when_its_time_is_over(ledger, doomed, point, calls):
    ledger.operation = "test.brief_charge"
    worker = doomed(f"{point}:1:hang")
    before = until(lambda: all_children_of(worker), seconds=START_SECONDS, pause_seconds=POLL_SECONDS)
    ledger.charge("order-0")
    assert ledger.settle()["order-0"]["state"] == "succeeded"
    assert ledger.history("order-0") == LEASE_RAN_OUT
    assert ledger.effects("order-0") == calls
    until(lambda: before - children_of(worker), pause_seconds=POLL_SECONDS)


@pytest.mark.parametrize("action", ["kill", "raise"])
def test_a_settled_job_whose_message_was_not_acknowledged_is_not_run_again(stack, ledger, doomed, action):
    worker = doomed(f"before_ack:1:{action}")
    for key in KEYS:
        ledger.charge(key)
    # An error that Celery does not know ends the worker as well.
    until(lambda: worker.has_ended, seconds=START_SECONDS, pause_seconds=POLL_SECONDS)
    redeliver(stack)
    jobs = ledger.settle()
    assert {job["state"] for job in jobs.values()} == {"succeeded"}
    assert UNTOUCHED in [ledger.history(key) for key in KEYS]


def test_a_worker_frozen_before_the_acknowledgement_changes_nothing_when_it_continues(stack, ledger, doomed):
    worker = doomed("before_ack:1:stop")
    frozen = psutil.Process(worker.popen.pid)
    for key in KEYS:
        ledger.charge(key)
    until(lambda: frozen.status() == psutil.STATUS_STOPPED, seconds=START_SECONDS, pause_seconds=POLL_SECONDS)
    let_messages_be_taken_over()
    stack.start_workers("worker-2")
    try:
        jobs = ledger.caller.when_ended(len(KEYS), seconds=60, stack=stack)
        stack.signal("doomed", signal.SIGCONT)
        assert ledger.settle() == {job["idempotency_key"]: job for job in jobs}
        assert {job["state"] for job in jobs} == {"succeeded"}
        assert UNTOUCHED in [ledger.history(key) for key in KEYS]
    finally:
        stack.kill("worker-2")


def redeliver(stack):
    """Start another worker, which takes over the first one's unacknowledged messages."""
    stack.kill("doomed")
    let_messages_be_taken_over()
    stack.start_workers("doomed")


def children_of(worker):
    return {child.pid for child in psutil.Process(worker.popen.pid).children()}


def all_children_of(worker):
    """Return the worker's child processes, once all have started."""
    children = children_of(worker)
    return children if len(children) == CONCURRENCY else None


def the_one_hit(ledger, history):
    """Return the key of the one job with this history; all others must be untouched."""
    histories = {key: ledger.history(key) for key in KEYS}
    [hit] = [key for key in KEYS if histories[key] == history]
    assert all(histories[key] == UNTOUCHED for key in KEYS if key != hit), histories
    return hit
