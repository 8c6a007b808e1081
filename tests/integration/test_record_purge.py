"""The purge of expired records: what it deletes, what it keeps, and its cost among many rows."""

from __future__ import annotations

import psycopg
import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from idempotency import key_lifetime, maintenance_queries, queries, record_purge
from idempotency.models import IdempotencyRecord

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def ended(monkeypatch):
    """Return the set of ended resources, which the only registered filter reads."""
    resources = set()
    monkeypatch.setattr(key_lifetime, "_ended_filters", [lambda named: resources & set(named)])
    return resources


def insert_records(count, *, expired_for="1 hour", resource=None, prefix="key"):
    """Insert records that expired one second apart, the last of them `expired_for` ago."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO idempotency_record
                (scope, key, fingerprint, fingerprint_version, fingerprint_kid, method, path, resource,
                 created_at, expires_at)
            SELECT 'owner', %s || n, '', 1, 'k1', 'POST', '/', %s,
                   now() - interval '3 days' - n * interval '1 second',
                   now() - %s::interval - n * interval '1 second'
            FROM generate_series(1, %s) AS n
            """,
            (prefix, resource, expired_for, count),
        )


def keys():
    return set(IdempotencyRecord.objects.values_list("key", flat=True))


def test_expired_records_are_deleted_and_live_ones_stay():
    insert_records(7)
    insert_records(3, expired_for="-1 hour", prefix="live")
    assert record_purge.run_once(limit=100) == record_purge.Counts(deleted=7, kept=0)
    assert keys() == {"live1", "live2", "live3"}


def test_one_run_deletes_all_expired_records_in_short_transactions():
    insert_records(7)
    with CaptureQueriesContext(connection) as captured:
        assert record_purge.run_once(limit=3).deleted == 7
    assert [query["sql"] for query in captured].count("COMMIT") == 3


def test_a_record_whose_resource_has_not_ended_stays_until_it_has(ended):
    insert_records(1, resource="job/1")
    assert record_purge.run_once(limit=10) == record_purge.Counts(deleted=0, kept=1)
    ended.add("job/1")
    assert record_purge.run_once(limit=10) == record_purge.Counts(deleted=1, kept=0)


def test_records_that_must_stay_do_not_delay_later_ones(ended):
    insert_records(25, expired_for="2 hours", resource="job/unknown", prefix="stuck")
    insert_records(25, expired_for="1 hour", resource="job/ended")
    ended.add("job/ended")
    assert record_purge.run_once(limit=10) == record_purge.Counts(deleted=25, kept=25)
    assert all(key.startswith("stuck") for key in keys())


def test_records_that_expired_at_the_same_instant_are_all_deleted():
    insert_records(10)
    IdempotencyRecord.objects.update(expires_at=IdempotencyRecord.objects.first().expires_at)
    assert record_purge.run_once(limit=3).deleted == 10


def test_without_a_filter_every_resource_counts_as_ended(monkeypatch):
    monkeypatch.setattr(key_lifetime, "_ended_filters", [])
    insert_records(2, resource="job/1")
    assert record_purge.run_once(limit=10).deleted == 2


def test_a_resource_has_ended_only_if_every_filter_returns_it(ended):
    ended.update({"job/1", "job/2"})
    key_lifetime.register_ended_filter(lambda named: set(named) - {"job/2"} | {"not in the question"})
    assert key_lifetime.find_ended({"job/1", "job/2", "job/3", None}) == {"job/1", None}


def test_a_record_locked_by_a_redrive_is_left_for_the_next_run():
    insert_records(3)
    own = connection.settings_dict
    with psycopg.connect(
        host=own["HOST"], port=own["PORT"], user=own["USER"], password=own["PASSWORD"], dbname=own["NAME"]
    ) as redrive:
        redrive.execute(queries._LOCK, (IdempotencyRecord.objects.get(key="key2").pk,))
        assert record_purge.run_once(limit=10).deleted == 2
        redrive.rollback()
    assert keys() == {"key2"}
    assert record_purge.run_once(limit=10).deleted == 1


def test_the_purge_reads_no_more_than_its_batch_among_many_rows():
    insert_records(20_000, expired_for="-10 hours", prefix="live")
    insert_records(2_000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE idempotency_record")
        middle = IdempotencyRecord.objects.get(key="key1000")
        cursor.execute(
            "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) "
            + maintenance_queries._LOCK_EXPIRED_BATCH,
            (maintenance_queries.read_clock(), middle.expires_at, middle.pk, 500),
        )
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "Index Scan using idempotency_record_expiry" in plan
    assert "Rows Removed by Filter" not in plan
    assert "Sort" not in plan


def test_a_batch_begins_after_the_last_record_seen():
    insert_records(4)
    until = maintenance_queries.read_clock()
    with transaction.atomic():
        everything = maintenance_queries.lock_expired_batch(until=until, after=record_purge._BEGINNING, limit=10)
        rest = maintenance_queries.lock_expired_batch(until=until, after=everything[1], limit=10)
    assert (len(everything), rest) == (4, everything[2:])
