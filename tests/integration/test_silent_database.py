"""A database that accepts everything and answers nothing: each client gets an error in bounded time, and nothing breaks later."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from urllib.parse import urlsplit

import pytest
from django.db import OperationalError, connection, connections, transaction
from rest_framework.test import APIClient

from jobs.models import Job
from jobs.states import State
from tests.support.broker_proxy import BrokerProxy
from tests.support.client import CHARGE, accepted, post, problem
from tests.support.factories import TenantFactory, new_api_key, queued_job
from tests.support.metrics import read
from tests.support.scenarios import history
from tests.support.stack import database_url
from tests.support.threads import TIMEOUT_SECONDS
from tests.support.waiting import until
from workers.executor import execute_job

pytestmark = pytest.mark.django_db(transaction=True)

# Long enough for every statement that is answered, on a machine that has other things to do.
ANSWER_SECONDS = 1.5
LONGER_SECONDS = ANSWER_SECONDS + 0.5


class Relay(BrokerProxy):
    """In front of PostgreSQL. Can lose the answer to the next COMMIT, which arrives and is done."""

    def __init__(self, url):
        self._losing, self._commit = "", b""
        super().__init__(url)

    def lose_next_commit(self, way, *, commit=b"COMMIT"):
        """`way`: whether the connection is cut then, or is silent from then on. `commit`: bytes in the message that commits."""
        self._losing, self._commit = way, commit

    def _pass_on(self, data, source, sink):
        if not self._losing or self._commit not in data:
            super()._pass_on(data, source, sink)
            return
        way, self._losing = self._losing, ""
        # Before the commit is sent: the relay of the other direction would pass the answer on.
        if way == "silent":
            self.fall_silent()
        else:
            source.shutdown(socket.SHUT_RDWR)
        sink.sendall(data)


@pytest.fixture
def relay(transactional_db):
    relay = Relay(database_url())
    yield relay
    relay.refuse()


@pytest.fixture
def in_thread(relay, monkeypatch):
    """Runs a function in a thread whose connections go through the relay; `connection` of the test's own thread does not."""
    usual = connections.settings["default"]
    options = {**usual["OPTIONS"], "connect_timeout": 2, "answer_seconds": ANSWER_SECONDS}
    through = {**usual, "HOST": "127.0.0.1", "PORT": urlsplit(relay.url).port, "OPTIONS": options}
    monkeypatch.setitem(connections.settings, "default", through)

    def run(function, *values):
        try:
            return function(*values)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        yield lambda function, *values: pool.submit(run, function, *values)
        relay.come_back()


def value_of(statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


# --- the connection ------------------------------------------------------------------------------------------------------


def test_a_statement_without_an_answer_fails_and_its_late_answer_is_discarded(relay, in_thread):
    def ask():
        assert value_of("SELECT 1") == 1
        relay.fall_silent()
        with pytest.raises(OperationalError, match="has not answered"):
            value_of("SELECT 2")
        assert connection.connection.closed
        relay.come_back()
        connection.close_if_unusable_or_obsolete()
        return value_of("SELECT 3")

    assert in_thread(ask).result(TIMEOUT_SECONDS) == 3


def test_a_transaction_without_an_answer_is_ended(relay, in_thread):
    @transaction.atomic
    def write():
        value_of("SELECT 1")
        relay.fall_silent()
        value_of("SELECT 2")

    def ask():
        with pytest.raises(OperationalError, match="has not answered"):
            write()
        # Nor has it waited for a new connection, only to end the transaction.
        assert relay.accepted == 1
        relay.come_back()
        with transaction.atomic():
            return value_of("SELECT 3")

    assert in_thread(ask).result(TIMEOUT_SECONDS) == 3


def test_a_kept_connection_that_is_silent_fails_its_health_check(relay, in_thread):
    def ask():
        connection.settings_dict["OPTIONS"]["answer_seconds"] = None
        assert value_of("SELECT 1") == 1
        relay.fall_silent()
        usable = connection.is_usable()
        return usable, connection.connection.answer_seconds

    assert in_thread(ask).result(TIMEOUT_SECONDS) == (False, None)


def test_a_server_that_accepts_but_does_not_answer_is_a_connection_error(relay, in_thread):
    relay.fall_silent()
    with pytest.raises(OperationalError, match="timeout"):
        in_thread(value_of, "SELECT 1").result(TIMEOUT_SECONDS)
    assert relay.accepted == 1


def test_a_connection_without_a_limit_waits_as_long_as_it_takes(relay, in_thread):
    def ask():
        connection.settings_dict["OPTIONS"]["answer_seconds"] = None
        return value_of("SELECT 1"), value_of(f"SELECT pg_sleep({LONGER_SECONDS}) IS NOT NULL")

    assert in_thread(ask).result(TIMEOUT_SECONDS) == (1, True)


def test_copy_pipeline_and_notifications_still_work(in_thread):
    def use():
        connection.ensure_connection()
        driver = connection.connection
        with driver.cursor() as cursor:
            cursor.execute("CREATE TEMPORARY TABLE number (value int)")
            with cursor.copy("COPY number FROM STDIN") as copy:
                for value in range(1_000):
                    copy.write_row([value])
            cursor.executemany("INSERT INTO number VALUES (%s)", [[value] for value in range(100)])
            with cursor.copy("COPY number TO STDOUT") as copy:
                rows = sum(1 for _row in copy.rows())
            with driver.pipeline():
                cursor.execute("SELECT count(*) FROM number")
                counted = cursor.fetchone()[0]
            cursor.execute("LISTEN nobody")
        # Longer than any answer may take: no query was sent, so no answer is missing.
        heard = list(driver.notifies(timeout=LONGER_SECONDS))
        return rows, counted, heard, driver.closed, value_of("SELECT 1")

    assert in_thread(use).result(TIMEOUT_SECONDS) == (1_100, 1_100, [], False, 1)


# --- a request -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def ask(in_thread):
    """One POST with the same key, every time."""
    client = APIClient(headers={"Authorization": f"Bearer {new_api_key(TenantFactory())}"})
    return lambda **members: in_thread(post, client, {**CHARGE, **members}).result(TIMEOUT_SECONDS)


def test_a_request_without_a_database_answer_gets_503_with_retry_after(relay, ask):
    relay.fall_silent()
    answer = ask()
    document = problem(answer, 503, "service-unavailable")
    assert int(answer["Retry-After"]) >= 1
    assert "same Idempotency-Key" in document["detail"]


# The statement that accepts a key commits by itself; a request with a concurrency key has a transaction.
ROADS = {"one statement": ({}, b"payments.charge"), "transaction": ({"concurrency_key": "c"}, b"COMMIT")}


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("way", ["cut", "silent"])
def test_a_commit_whose_reply_is_lost_is_a_503_and_the_same_key_finds_the_one_job(relay, ask, way, road):
    members, commit = ROADS[road]
    relay.lose_next_commit(way, commit=commit)
    answer = ask(**members)
    document = problem(answer, 503, "service-unavailable")
    assert int(answer["Retry-After"]) >= 1
    assert "same Idempotency-Key" in document["detail"]
    assert "Idempotency-Replayed" not in answer
    job = until(Job.objects.first)
    relay.come_back()
    again = ask(**members)
    assert accepted(again)["id"] == str(job.id)
    assert again["Idempotency-Replayed"] == "true"
    assert Job.objects.count() == 1


# --- an attempt ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def work(relay, in_thread, script, settings, fresh_heartbeat):
    """An attempt has begun and met silence; what it gives, and what lets it return."""
    settings.HEARTBEAT_SECONDS = 0.05
    may_return, has_begun = Event(), Event()

    def perform(_job):
        relay.fall_silent()
        has_begun.set()
        return may_return.wait(TIMEOUT_SECONDS)

    job = queued_job(TenantFactory(), script=script(perform))
    attempt = in_thread(execute_job, job.id)
    assert has_begun.wait(TIMEOUT_SECONDS)
    yield job, attempt, may_return
    may_return.set()


def test_a_heartbeat_without_an_answer_is_retried_and_keeps_the_lease(relay, work):
    job, attempt, may_return = work
    # Its own connection, which it gives up, and others after it.
    before = relay.accepted
    until(lambda: relay.accepted >= before + 2)
    first = Job.objects.get(pk=job.id).lease_expires_at
    relay.come_back()
    until(lambda: Job.objects.get(pk=job.id).lease_expires_at > first)
    may_return.set()
    assert attempt.result(TIMEOUT_SECONDS).state == State.SUCCEEDED
    assert history(job.id) == ["submit", "claim", "succeed"]


def test_an_attempt_that_ends_without_a_database_answer_is_recorded_when_the_database_answers_again(relay, work):
    job, attempt, may_return = work
    before = relay.accepted
    may_return.set()
    until(lambda: relay.accepted > before)
    relay.come_back()
    attempt.result(TIMEOUT_SECONDS)
    assert Job.objects.get(pk=job.id).state == State.SUCCEEDED
    assert history(job.id) == ["submit", "claim", "succeed"]


def test_a_scrape_returns_process_metrics_within_ten_seconds(relay, in_thread, settings):
    def scrape():
        assert value_of("SELECT 1") == 1
        relay.fall_silent()
        began_at = time.monotonic()
        answer = APIClient(headers={"Authorization": "Bearer a-token"}).get("/metrics")
        return time.monotonic() - began_at, read(answer.content.decode())

    settings.METRICS_TOKEN = "a-token"
    seconds, found = in_thread(scrape).result(TIMEOUT_SECONDS)
    assert seconds < 10
    assert found.of("semel_up", component="postgres") == 0
    assert found.has("semel_job_transitions_total")
