"""A database that is killed, stopped, frozen or cut: 503 while it is away (I7), and afterwards all goes on by itself (I1-I3)."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import psutil
import pytest
import redis
from django.conf import settings

from tests.support.postgres import Postgres, running_postgres
from tests.support.stack import POLL_SECONDS, START_SECONDS, Caller, running_stack
from tests.support.waiting import until

# With those that prove it is away, fewer than the api has threads: /livez must find one.
CLIENTS = 8
CHARGES = 40
# A statement's 5 s and 2 s more, or 3 s for a health check and 3 s for a new connection; the rest is for a busy machine.
BOUND_SECONDS = 12.0
OUTAGE_SECONDS = 30.0
# Seconds until a client that retries gets its 202: the outage, and then at once.
ACCEPTED_SECONDS = 90.0
# Longer than the outage and a slow restart: an attempt under way keeps what it has.
LEASE_SECONDS = "120"
# Until all jobs have ended: seconds, or a lease, should the reply to a claim's commit be lost.
ENDED_SECONDS = 180.0


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    with running_postgres(tmp_path_factory.mktemp("postgres")) as postgres:
        yield postgres


@pytest.fixture(scope="module")
def stack(tmp_path_factory, postgres):
    folder = tmp_path_factory.mktemp("database-away")
    with running_stack(
        folder, "--slow-seconds", "2", DATABASE_URL=postgres.url, LEASE_SECONDS=LEASE_SECONDS, API_WORKERS="2"
    ) as stack:
        stack.start_workers("worker", "maintenance", "beat")
        stack.start_api()
        yield stack


@pytest.fixture(scope="module")
def caller(stack, postgres):
    """A client; the whole way has been gone once."""
    caller = Caller(stack.urls["api"], postgres.new_api_key())
    with caller.http:
        assert caller.charge("before").status_code == 202
        caller.when_ended(1, seconds=START_SECONDS, stack=stack)
        yield caller


class Load:
    """Clients that ask for charges, each under one key until it is accepted."""

    def __init__(self, caller, name):
        self.caller = caller
        self.name = name
        self.accepted = []
        self.refused = []
        self.slowest = 0.0

    def ask(self, number, source="tok_visa"):
        end = time.monotonic() + ACCEPTED_SECONDS
        while (answer := self._timed(f"{self.name}-{number}", source, 100 + number)).status_code != 202:
            problem(answer)
            assert time.monotonic() < end, answer.text
            self.refused.append(number)
            # As Retry-After says, only less patient.
            Event().wait(0.2)
        self.accepted.append(answer)
        return answer

    def begin_slow(self, number):
        """The provider is busy with this charge."""
        address = self.ask(number, "tok_slow").headers["Location"]
        until(lambda: self.caller.http.get(address).json()["effects"], pause_seconds=POLL_SECONDS)

    def _timed(self, key, source, amount):
        began = time.monotonic()
        try:
            return self.caller.charge(key, source, amount=amount)
        finally:
            self.slowest = max(self.slowest, time.monotonic() - began)


@pytest.fixture
def load(caller, stack, request):
    """Load of the test's own. When the test ends, the processes are those that there were."""
    before = processes(stack)
    yield Load(caller, request.node.name)
    assert processes(stack) == before


def processes(stack):
    """Return the pid of every process: a replaced process would have another one."""
    mains = [psutil.Process(running.popen.pid) for running in stack.running.values()]
    return {process.pid for main in mains for process in (main, *main.children(recursive=True))}


@pytest.mark.parametrize("fault", [Postgres.killed, Postgres.frozen, Postgres.stopped])
def test_requests_get_503_with_retry_after_and_no_job_is_lost_or_repeated(stack, postgres, load, fault):
    load.begin_slow(0)
    with ThreadPoolExecutor(CLIENTS) as clients:
        charges = [clients.submit(load.ask, number) for number in range(1, CHARGES)]
        until(lambda: len(load.accepted) > CLIENTS)
        began = time.monotonic()
        with fault(postgres):
            prove_that_it_is_away(load)
            if fault is Postgres.stopped:
                until(lambda: time.monotonic() - began > OUTAGE_SECONDS, seconds=2 * OUTAGE_SECONDS)
        for one in charges:
            one.result()
    assert load.slowest < BOUND_SECONDS, f"the slowest answer took {load.slowest:.2f} s"
    jobs = prove_that_nothing_is_lost(stack, postgres, load)
    # The attempt that received the provider's response during the outage recorded it.
    assert jobs[load.accepted[0].json()["id"]]["attempt"] == 1


def test_sessions_that_are_ended_again_and_again_cost_no_job(stack, postgres, load):
    load.begin_slow(0)
    with ThreadPoolExecutor(CLIENTS) as clients:
        charges = [clients.submit(load.ask, number) for number in range(1, CHARGES)]

        ended = []

        def all_are_accepted():
            before = len(load.accepted)
            ended.append(postgres.end_sessions())
            # Between two blows at least one gets through, however slow the machine is.
            until(lambda: len(load.accepted) > before or all(one.done() for one in charges), seconds=60)
            return all(one.done() for one in charges)

        until(all_are_accepted, seconds=ACCEPTED_SECONDS)
        for one in charges:
            one.result()
    # A request whose session was ended between two statements is not refused: it opens a new one.
    assert sum(ended) > CLIENTS
    # While the jobs run as well.
    for _ in range(50):
        postgres.end_sessions()
    prove_that_nothing_is_lost(stack, postgres, load)


def prove_that_it_is_away(load):
    """Every kind of request says so, in bounded time, to all who ask at once; the process lives."""
    ask = load.caller.http.request
    job = "/v1/jobs/01a20155-72b5-77f2-8f1c-7b06f3db8b29"
    with ThreadPoolExecutor(5) as clients:
        away = [
            clients.submit(ask, "GET", "/v1/jobs"),
            clients.submit(ask, "GET", job),
            clients.submit(ask, "POST", f"{job}/cancel"),
            clients.submit(ask, "GET", "/readyz"),
        ]
        assert clients.submit(ask, "GET", "/livez").result().status_code == 204
        *requests, ready = [problem(one.result()) for one in away]
    assert all("same Idempotency-Key" in document["detail"] for document in requests)
    assert ready["detail"] == "The database does not answer."
    until(lambda: len(load.refused) >= CLIENTS)


def prove_that_nothing_is_lost(stack, postgres, load):
    """One job for each key, each succeeded with one charge; nothing waits, no transaction is left open. The jobs, by id."""
    jobs = load.caller.when_ended(1 + CHARGES, seconds=ENDED_SECONDS, stack=stack)
    ours = {job["id"]: job for job in jobs if job["idempotency_key"].startswith(f"{load.name}-")}
    assert ours.keys() == {answer.json()["id"] for answer in load.accepted}
    assert len(ours) == CHARGES
    assert {job["state"] for job in ours.values()} == {"succeeded"}
    for job_id in ours:
        assert len(stack.provider.charges(f"semel-{job_id}-charge-1")) == 1
    until(lambda: not postgres.idle_in_transaction(), pause_seconds=POLL_SECONDS)
    with redis.Redis.from_url(settings.REDIS_URL) as broker:
        until(lambda: not broker.llen("default") and not broker.hlen("unacked"), pause_seconds=POLL_SECONDS)
    return ours


def problem(answer):
    """The document of an answer while the database is away: it says when to come back."""
    assert answer.status_code == 503, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert int(answer.headers["Retry-After"]) >= 1
    assert "Idempotency-Replayed" not in answer.headers
    document = answer.json()
    assert (document["code"], document["retryable"]) == ("service-unavailable", True)
    return document
