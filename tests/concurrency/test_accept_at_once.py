"""Races for one key between requests that are accepted by one statement, with real sessions and commits."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from threading import Barrier

import pytest
from django.db import DataError, OperationalError, connection
from django.http import HttpResponse

from accounts.scopes import format_scope
from foundation import fault_points
from idempotency import accept, queries
from idempotency.fingerprint import RequestParts
from idempotency.models import IdempotencyRecord, InboxMessage
from idempotency.queries import LockWaitTimeout
from idempotency.records import KeyedRequest, Work
from jobs.models import Job, JobEvent
from tests.support.client import CHARGE, accepted, post, problem
from tests.support.row_locks import locked_key, until_waiting
from tests.support.threads import TIMEOUT_SECONDS, at_once, begin
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

OWN_TIMEOUT = "20s"
REQUEST = KeyedRequest(scope="owner", key="k", ttl_seconds=3_600, parts=RequestParts(method="POST", path="/"))
# Inserts one row with the value of an expression.
INSERT = "work AS (INSERT INTO inbox_message (consumer, message_id) SELECT 'a', ({})::text FROM accepted)"
WORK = Work(
    ctes=INSERT.format("id"),
    values={},
    resource="order/1",
    response=HttpResponse(b"{}", status=202),
    after_commit=lambda: None,
)


@contextmanager
def own_lock_timeout():
    """Set this session's own lock_timeout, and check that it is the same afterwards."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = '{OWN_TIMEOUT}'")
        yield
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == (OWN_TIMEOUT,)
        cursor.execute("RESET lock_timeout")


def accept_plainly(work=WORK, *, age=timedelta()):
    at = queries.find(scope=REQUEST.scope, key=REQUEST.key).read_at - age
    return accept.accept_at_once(REQUEST, work, at=at, max_stored_bytes=None)


# --- The statement ---


def test_the_wait_for_another_request_is_bounded_by_the_statement_itself():
    with locked_key(scope="owner", key="k"), own_lock_timeout():
        assert accept_plainly() is None
    assert IdempotencyRecord.objects.count() == InboxMessage.objects.count() == 0


def test_the_bound_ends_with_the_statement():
    with own_lock_timeout():
        assert accept_plainly() is not None
    with own_lock_timeout():
        assert accept_plainly() is None  # the key is taken
    IdempotencyRecord.objects.all().delete()
    with own_lock_timeout(), pytest.raises(DataError, match="division by zero"):
        accept_plainly(replace(WORK, ctes=INSERT.format("1 / (id - id)")))
    assert IdempotencyRecord.objects.count() == 0


def test_a_statement_that_is_slow_without_a_lock_is_an_error_and_not_a_duplicate():
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 100")
        try:
            with pytest.raises(OperationalError, match="statement timeout"):
                accept_plainly(replace(WORK, ctes=INSERT.format("pg_sleep(60)")))
        finally:
            cursor.execute("RESET statement_timeout")
    assert IdempotencyRecord.objects.count() == 0


def test_a_process_that_was_stopped_for_ten_seconds_writes_nothing_with_its_old_clock():
    assert accept_plainly(age=timedelta(seconds=11)) is None
    assert IdempotencyRecord.objects.count() == 0
    assert accept_plainly(age=timedelta(seconds=1)) is not None


def test_an_error_after_the_commit_does_not_reach_the_client():
    assert accept_plainly(replace(WORK, after_commit=lambda: 1 / 0)) is not None
    assert IdempotencyRecord.objects.get().status == 202


# --- Requests ---


@pytest.fixture
def scope(tenant):
    return format_scope(tenant_id=tenant.id, mode="test")


def test_one_of_many_concurrent_requests_is_accepted_and_all_get_its_bytes(api):
    barrier = Barrier(8)

    def send(key):
        barrier.wait(TIMEOUT_SECONDS)
        return post(api, key=key)

    for number in range(5):
        answers = at_once(*[lambda key=f"k{number}": send(key)] * 8)
        assert len({answer.content for answer in answers}) == 1
        assert sorted(answer["Idempotency-Replayed"] for answer in answers) == ["false"] + ["true"] * 7
    assert (Job.objects.count(), JobEvent.objects.count(), IdempotencyRecord.objects.count()) == (5, 5, 5)


def test_a_duplicate_waits_for_the_request_before_it_and_runs_if_that_rolls_back(api, scope, settings):
    settings.IDEMPOTENCY_WAIT_SECONDS = TIMEOUT_SECONDS
    with locked_key(scope=scope, key="a-key"):
        [answer] = begin(lambda: post(api))
        # First in the one statement, then in a slot.
        until(
            lambda: (
                accept._slots(settings.IDEMPOTENCY_WAITING_DUPLICATES)._value < settings.IDEMPOTENCY_WAITING_DUPLICATES
            )
        )
        until_waiting(1)
    first = answer()
    assert (first["Idempotency-Replayed"], Job.objects.count()) == ("false", 1)
    assert post(api).content == first.content


def test_a_duplicate_is_refused_if_the_request_before_it_does_not_end(api, scope, settings):
    settings.IDEMPOTENCY_WAIT_SECONDS = 0.2
    with locked_key(scope=scope, key="a-key"):
        [refused] = at_once(lambda: post(api, retries=False))
    assert problem(refused, 409, "idempotency-request-in-progress")
    assert Job.objects.count() == 0


@pytest.mark.parametrize("body", [CHARGE, {**CHARGE, "metadata": {"order": "2"}}])
def test_a_request_overtaken_between_look_up_and_accept_writes_nothing(api, body):
    overtaking = []

    def overtake(point):
        if point == "before_key" and not overtaking:
            overtaking.append(None)
            overtaking[0] = post(api)

    with fault_points.watch(overtake):
        answer = post(api, body)
    first = accepted(overtaking[0])
    if body == CHARGE:
        assert (answer.content, answer["Idempotency-Replayed"]) == (overtaking[0].content, "true")
    else:
        assert problem(answer, 409, "idempotency-key-reused")["mismatch"] == ["/metadata/order"]
    assert [str(job.id) for job in Job.objects.all()] == [first["id"]]
    assert JobEvent.objects.count() == 1


def test_a_lock_that_is_not_the_keys_is_not_taken_for_another_request(api, monkeypatch):
    """What the statement says about a lock is decided by the other road, which waits for the key alone."""
    monkeypatch.setattr(queries, "accept_at_once", _raise_lock_wait_timeout)
    assert post(api)["Idempotency-Replayed"] == "false"
    assert Job.objects.count() == 1


def _raise_lock_wait_timeout(*_values, **_named):
    raise LockWaitTimeout
