"""While the broker is down, jobs are accepted in bounded time (I7). After it lost its data, hints are published again (I8)."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from django.conf import settings

from tests.support.broker_proxy import broker_proxy
from tests.support.promises import assert_nothing_is_left_over
from tests.support.stack import POLL_SECONDS, Caller, running_stack
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

# More than the api has threads, so that requests also wait for each other.
CLIENTS = 32
# The promise is 1.5 s (measured by tests/bench/bench_broker_down.py); the rest is a reserve for a busy machine.
BOUND_SECONDS = 5.0


@pytest.fixture(scope="module")
def proxy():
    with broker_proxy(settings.REDIS_URL) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker, tmp_path_factory, proxy):
    folder = tmp_path_factory.mktemp("broker")
    with (
        django_db_blocker.unblock(),
        running_stack(
            # With a rate limit, so that everything that talks to the broker must share one time-out.
            folder,
            REDIS_URL=proxy.url,
            API_WORKERS="2",
            RATE_LIMIT_PER_SECOND="100000",
            RATE_LIMIT_BURST="100000",
        ) as stack,
    ):
        stack.start_workers("worker", "maintenance", "beat")
        yield stack


@pytest.fixture
def caller(stack, api_key, proxy):
    """Return a client of an api that has not met a broken broker yet."""
    caller = Caller(stack.start_api(), api_key)
    with caller.http:
        yield caller
    stack.kill("api")
    proxy.come_back()


def charge_timed(caller, number):
    began = time.monotonic()
    answer = caller.charge(f"order-{number}", amount=100 + number)
    return answer, time.monotonic() - began


def wait_for_first_job(caller, stack):
    """Run one job to its end, so that no process is still starting."""
    assert caller.charge("first").status_code == 202
    caller.when_ended(1, seconds=60, stack=stack)


@pytest.mark.parametrize("way", ["refuse", "fall_silent"])
def test_jobs_are_accepted_in_bounded_time_without_the_broker_and_run_once_it_is_back(stack, caller, proxy, way):
    wait_for_first_job(caller, stack)
    getattr(proxy, way)()
    with ThreadPoolExecutor(CLIENTS) as clients:
        responses = list(clients.map(lambda number: charge_timed(caller, number), range(CLIENTS)))
    slowest = max(seconds for _answer, seconds in responses)
    assert {answer.status_code for answer, _seconds in responses} == {202}
    assert slowest < BOUND_SECONDS, f"the slowest of {CLIENTS} answers took {slowest:.2f} s"
    # The breakers are open now: each process tries the broker only once in a while.
    tried = proxy.accepted
    with ThreadPoolExecutor(CLIENTS) as clients:
        responses += clients.map(lambda number: charge_timed(caller, number), range(CLIENTS, 2 * CLIENTS))
    assert {answer.status_code for answer, _seconds in responses} == {202}
    assert proxy.accepted - tried < CLIENTS // 2
    # Nothing is lost, and replays need no broker either. A worker that is busy continues with the backlog without a broker.
    assert len(caller.jobs()) == 2 * CLIENTS + 1
    again = caller.charge("order-0", amount=100)
    assert (again.status_code, again.content) == (202, responses[0][0].content)
    proxy.come_back()
    jobs = caller.when_ended(2 * CLIENTS + 1, seconds=60, stack=stack)
    assert {job["state"] for job in jobs} == {"succeeded"}
    charged = [charge["amount"] for charge in stack.provider.charges() if charge["amount"] != 1999]
    assert sorted(set(charged)) == [100 + number for number in range(2 * CLIENTS)]
    for job in jobs:
        assert len(stack.provider.charges(f"semel-{job['id']}-charge-1")) == 1
    assert_nothing_is_left_over()


def test_no_job_is_lost_when_the_broker_loses_its_data(stack, caller):
    wait_for_first_job(caller, stack)
    stack.signal("worker", signal.SIGSTOP)
    try:
        for number in range(20):
            assert caller.charge(f"order-{number}").status_code == 202
        with redis.Redis.from_url(settings.REDIS_URL) as valkey:
            # A frozen worker's connection may have taken one or two.
            until(lambda: valkey.llen("default") >= 15, pause_seconds=POLL_SECONDS)
            valkey.flushdb()
            until(lambda: valkey.llen("default") >= 15, pause_seconds=POLL_SECONDS)
    finally:
        stack.signal("worker", signal.SIGCONT)
    jobs = caller.when_ended(21, seconds=60, stack=stack)
    assert {job["state"] for job in jobs} == {"succeeded"}
    for job in jobs:
        assert len(stack.provider.charges(f"semel-{job['id']}-charge-1")) == 1
