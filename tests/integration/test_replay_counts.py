"""Replays are counted in memory and written in batches, approximately and at no cost to the request."""

from __future__ import annotations

import threading

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from idempotency import queries
from idempotency.models import IdempotencyRecord
from idempotency.replay_counter import ReplayCounter, replay_counter
from tests.support.client import accepted, post
from tests.support.row_locks import locked_record
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def _nothing_counted():
    replay_counter._counts.clear()
    yield
    replay_counter._counts.clear()


def record():
    return IdempotencyRecord.objects.get()


@pytest.mark.django_db
def test_replays_are_counted_and_written_by_one_statement(api):
    for _ in range(3):
        accepted(post(api))
    accepted(post(api, key="another"))
    accepted(post(api, key="another"))
    assert set(IdempotencyRecord.objects.values_list("replays", "last_replayed_at")) == {(0, None)}
    with CaptureQueriesContext(connection) as statements:
        replay_counter.flush()
    assert len(statements) == 1
    assert dict(IdempotencyRecord.objects.values_list("key", "replays")) == {"a-key": 2, "another": 1}
    assert all(one.last_replayed_at > one.created_at for one in IdempotencyRecord.objects.all())
    with CaptureQueriesContext(connection) as statements:
        replay_counter.flush()
    assert len(statements) == 0


@pytest.mark.django_db
def test_refused_requests_are_not_counted_as_replays(api):
    accepted(post(api))
    assert post(api, {"operation": "demo.sleep", "params": {"seconds": 1}}).status_code == 409
    replay_counter.flush()
    assert record().replays == 0


@pytest.mark.django_db
def test_counts_of_deleted_records_are_harmless(api):
    accepted(post(api))
    queries.add_replays({record().id + 1: 5})
    assert record().replays == 0


@pytest.mark.django_db(transaction=True)
def test_a_locked_record_is_skipped(api):
    accepted(post(api))
    accepted(post(api, key="another"))
    locked, free = IdempotencyRecord.objects.order_by("id")
    with locked_record(locked.id):
        queries.add_replays({locked.id: 1, free.id: 1})
    assert dict(IdempotencyRecord.objects.values_list("id", "replays")) == {locked.id: 0, free.id: 1}


@pytest.mark.django_db(transaction=True)
def test_counts_are_written_soon_by_a_thread_that_ends(api, settings):
    settings.IDEMPOTENCY_REPLAY_FLUSH_SECONDS = 0.05
    accepted(post(api))
    own = ReplayCounter()
    own.count(record().id)
    until(lambda: record().replays == 1)
    own.count(record().id)
    until(lambda: record().replays == 2)
    until(
        lambda: not [one for one in threading.enumerate() if one.name == "replay-replay_counter" and not is_late(one)]
    )


@pytest.mark.django_db
def test_a_database_error_loses_only_the_counts(api, monkeypatch, caplog):
    accepted(post(api))
    own = ReplayCounter()
    own._counts[record().id] = 2
    monkeypatch.setattr(queries, "_ADD_REPLAYS", "SELECT %s::text FROM nowhere WHERE %s IS NULL")
    with transaction.atomic():
        own.flush()
        transaction.set_rollback(True)
    assert "replays.not_counted" in caplog.text
    assert not own._counts


def is_late(timer):
    """Return True if the timer belongs to another test, which has a long flush interval."""
    return timer.interval > 1


@pytest.mark.django_db
def test_counting_resumes_after_a_thread_could_not_start(api, monkeypatch):
    def no_thread(_timer):
        raise RuntimeError("can't start new thread")

    accepted(post(api))
    own = ReplayCounter()
    with monkeypatch.context() as patch:
        patch.setattr("threading.Timer.start", no_thread)
        own.count(record().id)
    assert not own._task.is_pending
    own.count(record().id)
    assert own._task.is_pending
    own.flush()
    assert record().replays == 2
