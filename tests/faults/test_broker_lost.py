"""A broker that is killed, emptied, full or a replica: jobs are accepted (I7), none is lost (I8), no message is left (I9)."""

from __future__ import annotations

import contextlib
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from django.db import connection

from tests.support.stack import POLL_SECONDS, START_SECONDS, Caller, running_stack
from tests.support.valkey import Valkey, running_valkey
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

# More than the api has threads, so that requests also wait for each other.
CLIENTS = 32
# The promise is 1.5 s (measured by tests/bench/bench_broker_down.py); the rest is a reserve for a busy machine.
BOUND_SECONDS = 5.0
PROCESSES = ("worker", "maintenance", "beat")
# How many messages may be unacknowledged at once: one for each process of worker and maintenance (devstack/services.py).
SLOTS = 3


@pytest.fixture(scope="module")
def valkey(tmp_path_factory):
    with running_valkey(tmp_path_factory.mktemp("valkey")) as valkey:
        yield valkey


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker, tmp_path_factory, valkey):
    folder = tmp_path_factory.mktemp("broker-lost")
    with (
        django_db_blocker.unblock(),
        running_stack(
            # With a rate limit, so that everything that talks to the broker must share one time-out.
            folder,
            "--slow-seconds",
            "2",
            REDIS_URL=valkey.url,
            RATE_LIMIT_PER_SECOND="100000",
            RATE_LIMIT_BURST="100000",
        ) as stack,
    ):
        stack.start_workers(*PROCESSES)
        yield stack


@pytest.fixture
def caller(stack, api_key, valkey):
    """Return a client of an api that has not met a broken broker yet, after one job has run to its end."""
    with valkey.client() as client:
        client.delete("unacked", "unacked_index")
    caller = Caller(stack.start_api(), api_key)
    with caller.http:
        assert caller.charge("before").status_code == 202
        caller.when_ended(1, seconds=START_SECONDS, stack=stack)
        yield caller
    stack.kill("api")


@pytest.mark.parametrize(
    "fault",
    [partial(Valkey.killed, with_data=True), partial(Valkey.killed, with_data=False), Valkey.full, Valkey.demoted],
    ids=["killed", "emptied", "full", "demoted"],
)
def test_a_lost_broker_costs_no_job_and_no_process(stack, caller, valkey, fault):
    under_way = begin(caller, 2)
    with fault(valkey):
        responses = charge_all(caller)
        # Jobs that run already end without the broker.
        for answer in under_way:
            until(lambda: job(caller, answer)["state"] == "succeeded", pause_seconds=POLL_SECONDS)  # noqa: B023
    # A replica refuses acknowledgements: those messages return after the visibility timeout, and match no row.
    unacknowledged = SLOTS if fault is Valkey.demoted else 0
    prove_that_nothing_is_lost(stack, caller, valkey, under_way + responses, unacknowledged=unacknowledged)


def test_a_message_taken_from_a_full_broker_costs_no_job_and_no_process(stack, caller, valkey):
    """A worker that pops a message and cannot store it as unacknowledged loses it; it polls again once there is memory."""
    [under_way] = begin(caller, 1)
    with contextlib.ExitStack() as trouble:
        with stopped(stack, "worker", "maintenance"), valkey.client() as client:
            responses = charge_all(caller)
            until(lambda: client.llen("default") > CLIENTS // 2 and client.llen("maintenance") > 2)
            refused = valkey.refused("zadd")
            trouble.enter_context(valkey.full())
        # One entry in the index of unacknowledged messages for each of the two.
        until(lambda: valkey.refused("zadd") >= refused + 2, pause_seconds=POLL_SECONDS)
        until(lambda: job(caller, under_way)["state"] == "succeeded", pause_seconds=POLL_SECONDS)
    prove_that_nothing_is_lost(stack, caller, valkey, [under_way, *responses])


@contextlib.contextmanager
def stopped(stack, *names):
    """Stop these processes inside the block; their children work on."""
    for name in names:
        stack.running[name].popen.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for name in names:
            stack.running[name].popen.send_signal(signal.SIGCONT)


def charge(caller, number, source="tok_visa"):
    """Return the response, and how long it took."""
    began = time.monotonic()
    answer = caller.charge(f"order-{number}", source, amount=100 + number)
    return answer, time.monotonic() - began


def begin(caller, count):
    """Start this many charges and return their responses once the provider works on them."""
    answers = [charge(caller, CLIENTS + number, "tok_slow")[0] for number in range(count)]
    until(
        lambda: all(job(caller, answer)["effects"] for answer in answers),
        seconds=START_SECONDS,
        pause_seconds=POLL_SECONDS,
    )
    return answers


def charge_all(caller):
    """Send CLIENTS charges at once; each must be accepted in bounded time."""
    with ThreadPoolExecutor(CLIENTS) as clients:
        responses = list(clients.map(lambda number: charge(caller, number), range(CLIENTS)))
    slowest = max(seconds for _answer, seconds in responses)
    assert {answer.status_code for answer, _seconds in responses} == {202}
    assert slowest < BOUND_SECONDS, f"the slowest of {CLIENTS} answers took {slowest:.2f} s"
    return [answer for answer, _seconds in responses]


def job(caller, answer):
    return caller.http.get(answer.headers["Location"]).json()


def prove_that_nothing_is_lost(stack, caller, valkey, answers, *, unacknowledged=0):
    """Assert that every job succeeded with one charge, by the same processes, and only so many messages are left."""
    jobs = caller.when_ended(len(answers) + 1, seconds=60, stack=stack)
    assert {one["id"] for one in jobs} > {answer.json()["id"] for answer in answers}
    assert {one["state"] for one in jobs} == {"succeeded"}
    for one in jobs:
        assert len(stack.provider.charges(f"semel-{one['id']}-charge-1")) == 1
    assert not [name for name in PROCESSES if stack.running[name].has_ended]
    until(lambda: not left_over(valkey, unacknowledged), seconds=30, pause_seconds=POLL_SECONDS)


def left_over(valkey, unacknowledged):
    """Return what has not returned to its baseline: waiting or unacknowledged messages, and open transactions."""
    with valkey.client() as client, connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
        )
        counts = {
            "queued": sum(client.llen(queue) for queue in ("high", "default", "low", "maintenance")),
            "unacked": max(0, client.hlen("unacked") - unacknowledged),
            "idle in transaction": cursor.fetchone()[0],
        }
    return {name: count for name, count in counts.items() if count}
