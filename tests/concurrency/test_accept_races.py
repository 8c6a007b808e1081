"""Races for one key, with real threads, transactions and commits. The tests wait for facts, never for time."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from threading import Barrier, Event

import psycopg
import pytest
from django.db import OperationalError, connection, connections
from rest_framework.exceptions import NotFound
from rest_framework.response import Response

from idempotency import accept, key_lifetime, queries
from idempotency.http import idempotent
from idempotency.models import IdempotencyRecord
from tests.support import idempotent_view as shop
from tests.support.idempotent_view import OpenView, Orders, code_of, count_orders, send

pytestmark = pytest.mark.django_db(transaction=True)

# A test that waits this long fails; correct code never takes so long.
TIMEOUT_SECONDS = 20


@pytest.fixture(autouse=True)
def _shop(transactional_db, settings, monkeypatch):
    settings.IDEMPOTENCY_SCOPE = "tests.support.idempotent_view.scope_of"
    settings.IDEMPOTENCY_WAIT_SECONDS = TIMEOUT_SECONDS
    settings.IDEMPOTENCY_WAITING_DUPLICATES = 16
    monkeypatch.setattr(key_lifetime, "_ended_filters", [])
    accept._slots.cache_clear()
    shop.create_orders_table()
    yield
    shop.drop_orders_table()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(16) as executor:
        yield executor


def start(pool, call, *args, **kwargs):
    """Run the call in a thread with its own connection."""

    def run():
        try:
            return call(*args, **kwargs)
        finally:
            connections.close_all()

    return pool.submit(run)


def wait_until(fact, *args):
    end = time.monotonic() + TIMEOUT_SECONDS
    while not fact(*args):
        assert time.monotonic() < end, "the condition never became true"
        Event().wait(0.002)


def lock_waits():
    """Return how many of this database's connections wait for a lock."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()"
        )
        return cursor.fetchone()[0]


def longest_lock_wait():
    """Return for how many seconds the longest waiting statement has run, by the database's clock."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - query_start)), 0) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%%clock_timestamp%%'"
            " AND pid <> pg_backend_pid()"
        )
        return cursor.fetchone()[0]


class PausedRequest:
    """The first request, paused in the middle of its work until the test commits it or rolls it back."""

    def __init__(self, pool, monkeypatch):
        self.started, self.may_continue = Event(), Event()
        self.fails = False
        self.runs = 0
        monkeypatch.setattr(Orders, "during", lambda _view: self._during())
        self.answer = start(pool, send)
        assert self.started.wait(TIMEOUT_SECONDS)

    def _during(self):
        self.runs += 1
        if not self.started.is_set():
            self.started.set()
            assert self.may_continue.wait(TIMEOUT_SECONDS)
            if self.fails:
                raise NotFound

    def commit(self):
        self.may_continue.set()
        return self.answer.result(TIMEOUT_SECONDS)

    def roll_back(self):
        self.fails = True
        return self.commit()


@pytest.fixture
def paused(pool, monkeypatch):
    first = PausedRequest(pool, monkeypatch)
    yield first
    first.may_continue.set()


@contextmanager
def other_transaction():
    """Open a transaction on another connection."""
    own = connection.settings_dict
    with psycopg.connect(
        host=own["HOST"], port=own["PORT"], user=own["USER"], password=own["PASSWORD"], dbname=own["NAME"]
    ) as other:
        yield other
        other.rollback()


def expire_all():
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE idempotency_record SET created_at = created_at - interval '40 days',"
            " expires_at = expires_at - interval '40 days'"
        )


# --- Duplicates
# ----------------------------------------------------------------------------------------------------------


def test_one_of_many_concurrent_equal_requests_runs_and_all_get_its_bytes(pool):
    barrier = Barrier(12)

    def together(key):
        barrier.wait(TIMEOUT_SECONDS)
        return send(key=key)

    for number in range(5):
        answers = [start(pool, together, f"k{number}") for _ in range(12)]
        answers = [answer.result(TIMEOUT_SECONDS) for answer in answers]
        assert len({(answer.status_code, answer.content, answer["Location"]) for answer in answers}) == 1
        assert [answer["Idempotency-Replayed"] for answer in answers].count("false") == 1
        assert count_orders() == number + 1


def test_duplicates_wait_for_the_first_request_and_replay_it(pool, paused):
    duplicates = [start(pool, send) for _ in range(4)]
    wait_until(lambda: lock_waits() == 4)
    first = paused.commit()
    assert {duplicate.result(TIMEOUT_SECONDS).content for duplicate in duplicates} == {first.content}
    assert (paused.runs, count_orders()) == (1, 1)


def test_when_the_first_request_rolls_back_one_duplicate_takes_its_place(pool, paused):
    duplicates = [start(pool, send) for _ in range(4)]
    wait_until(lambda: lock_waits() == 4)
    assert paused.roll_back().status_code == 404
    answers = [duplicate.result(TIMEOUT_SECONDS) for duplicate in duplicates]
    assert len({answer.content for answer in answers}) == 1
    assert sorted(answer["Idempotency-Replayed"] for answer in answers) == ["false", "true", "true", "true"]
    assert count_orders() == 1


def test_a_different_request_under_a_key_being_accepted_waits_and_is_refused(pool, paused):
    other = start(pool, send, {"amount": 2})
    wait_until(lambda: lock_waits() == 1)
    paused.commit()
    assert code_of(other.result(TIMEOUT_SECONDS)) == "KeyReused"


def test_the_wait_ends_at_its_deadline(pool, paused, settings):
    settings.IDEMPOTENCY_WAIT_SECONDS = 0.3
    began = time.monotonic()
    refused = start(pool, send).result(TIMEOUT_SECONDS)
    assert 0.25 <= time.monotonic() - began < 3
    assert (code_of(refused), json.loads(refused.content)["retry_after_seconds"]) == ("RequestInProgress", 1)
    assert paused.commit().status_code == 201


def test_one_deadline_bounds_the_waits_for_several_transactions(pool, settings):
    send()
    expire_all()
    settings.IDEMPOTENCY_WAIT_SECONDS = 1.5
    lock_row = "SELECT 1 FROM idempotency_record FOR UPDATE"
    with other_transaction() as first, other_transaction() as second:
        first.execute(lock_row)
        queued = pool.submit(second.execute, lock_row)
        wait_until(lambda: lock_waits() == 1)
        began = time.monotonic()
        duplicate = start(pool, send)
        # So late that a lock_timeout that starts again here would end at twice the deadline.
        wait_until(lambda: longest_lock_wait() > 1.2)
        first.rollback()
        queued.result(TIMEOUT_SECONDS)
        assert code_of(duplicate.result(TIMEOUT_SECONDS)) == "RequestInProgress"
        assert time.monotonic() - began < 2.7


def test_duplicates_beyond_the_waiting_slots_are_refused_at_once(pool, paused, settings):
    settings.IDEMPOTENCY_WAITING_DUPLICATES = 1
    waiting = start(pool, send)
    wait_until(lambda: accept._slots(1)._value == 0)
    began = time.monotonic()
    assert code_of(start(pool, send).result(TIMEOUT_SECONDS)) == "RequestInProgress"
    assert time.monotonic() - began < TIMEOUT_SECONDS / 4
    first = paused.commit()
    assert waiting.result(TIMEOUT_SECONDS).content == first.content
    assert accept._slots(1)._value == 1


def test_a_duplicate_returns_its_slot_before_it_runs(pool, paused, settings, monkeypatch):
    settings.IDEMPOTENCY_WAITING_DUPLICATES = 1
    waiting = start(pool, send)
    wait_until(lambda: accept._slots(1)._value == 0)
    slots_while_running = []
    monkeypatch.setattr(Orders, "during", lambda _view: slots_while_running.append(accept._slots(1)._value))
    paused.roll_back()
    assert waiting.result(TIMEOUT_SECONDS).status_code == 201
    assert slots_while_running == [1]


def test_a_request_overtaken_during_its_validation_replays_the_other():
    class Overtaken(OpenView):
        overtaking: list[bytes] = []

        @idempotent(required=True, validate=lambda view, _request: view.overtake())
        def post(self, request, *, validated):
            shop.place_order()
            return Response({"order": count_orders()})

        def overtake(self):
            if not self.overtaking:
                self.overtaking.append(b"")
                self.overtaking[0] = send(view=Overtaken).content

    answer = send(view=Overtaken)
    assert [answer.content] == Overtaken.overtaking
    assert (answer["Idempotency-Replayed"], count_orders()) == ("true", 1)


# --- Expired records
# -----------------------------------------------------------------------------------------------------


def test_one_of_many_requests_takes_over_an_expired_key(pool):
    old = send()
    expire_all()
    barrier = Barrier(8)

    def together():
        barrier.wait(TIMEOUT_SECONDS)
        return send()

    answers = [start(pool, together) for _ in range(8)]
    answers = [answer.result(TIMEOUT_SECONDS) for answer in answers]
    assert len({answer.content for answer in answers}) == 1
    assert answers[0].content != old.content
    assert [answer["Idempotency-Replayed"] for answer in answers].count("false") == 1
    assert (count_orders(), IdempotencyRecord.objects.get().owner) == (2, 1)


def test_a_take_over_waits_for_a_redrive_and_then_replays(pool):
    old = send()
    expire_all()
    with other_transaction() as redrive:
        redrive.execute(queries._LOCK, (IdempotencyRecord.objects.get().pk,))
        retry = start(pool, send)
        wait_until(lambda: lock_waits() == 1)
        redrive.execute(queries._EXTEND_EXPIRY, (3600, IdempotencyRecord.objects.get().pk))
        redrive.commit()
    answer = retry.result(TIMEOUT_SECONDS)
    assert (answer.content, answer["Idempotency-Replayed"]) == (old.content, "true")
    assert count_orders() == 1


def test_a_take_over_checks_again_under_the_lock_whether_the_resource_has_ended(monkeypatch):
    old = send()
    expire_all()
    outcomes = [True, False]  # ended at the look-up, restarted before the lock
    key_lifetime.register_ended_filter(lambda resources: set(resources) if outcomes.pop(0) else set())
    answer = send()
    assert (answer.content, answer["Idempotency-Replayed"], outcomes) == (old.content, "true", [])


def test_a_request_runs_if_the_earlier_record_is_purged_before_it_is_read(monkeypatch):
    send()
    real, look_ups = queries.find, []

    def find(**key):
        look_ups.append(key)
        if len(look_ups) == 2:
            IdempotencyRecord.objects.all().delete()
        return replace(real(**key), record=None) if len(look_ups) == 1 else real(**key)

    monkeypatch.setattr(queries, "find", find)
    assert send()["Idempotency-Replayed"] == "false"
    assert (len(look_ups), count_orders()) == (2, 2)


def test_a_record_that_is_never_readable_is_reported_as_in_progress(monkeypatch):
    send()
    found = queries.find(scope="nobody's", key="k")
    monkeypatch.setattr(queries, "find", lambda **_: found)
    assert code_of(send()) == "RequestInProgress"
    assert count_orders() == 1


# --- Faults
# --------------------------------------------------------------------------------------------------------------


def test_a_lock_time_out_in_the_work_is_not_taken_for_a_duplicate(pool, monkeypatch):
    runs = []

    def wait_for_a_locked_table(view):
        runs.append(view)
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = 20; LOCK TABLE django_content_type")

    monkeypatch.setattr(Orders, "during", wait_for_a_locked_table)
    with other_transaction() as other:
        other.execute("LOCK TABLE django_content_type")
        with pytest.raises(OperationalError):
            send()
    assert (len(runs), count_orders(), IdempotencyRecord.objects.count()) == (1, 0, 0)


def test_a_lost_connection_undoes_everything_and_leaves_the_key_free(pool, monkeypatch):
    def lose_connection(view):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    monkeypatch.setattr(Orders, "during", lose_connection)
    with pytest.raises(OperationalError):
        start(pool, send).result(TIMEOUT_SECONDS)
    assert (count_orders(), IdempotencyRecord.objects.count()) == (0, 0)
