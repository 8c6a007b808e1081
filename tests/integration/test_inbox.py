"""A message is consumed once, in the transaction of its effects, and remembered while it may be redelivered."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.db.transaction import TransactionManagementError
from django.test.utils import CaptureQueriesContext

from idempotency import inbox, maintenance_queries
from idempotency.inbox import consume_once
from idempotency.maintenance_queries import read_clock
from idempotency.models import InboxMessage
from idempotency.record_purge import Counts
from tests.support.factories import TenantFactory
from tests.support.row_locks import connection_parameters, until_waiting
from tests.support.threads import TIMEOUT_SECONDS, at_once
from workers import purge

pytestmark = pytest.mark.django_db(transaction=True)


class WorkError(Exception):
    """An error in a consumer's work."""


def consume(message_id="m-1", consumer="payments"):
    with transaction.atomic():
        return consume_once(consumer, message_id)


def put(count, *, age):
    """Insert messages received `age` ago, one millisecond apart."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO inbox_message (consumer, message_id, received_at)"
            " SELECT 'payments', %s || n::text, clock_timestamp() - %s - n * interval '1 ms'"
            " FROM generate_series(1, %s::int) AS n",
            [f"{age}-", age, count],
        )


# --- Once ------------------------------------------------------------------------------------------------------------


def test_a_message_is_consumed_only_the_first_time():
    assert [consume() for _ in range(3)] == [True, False, False]
    assert InboxMessage.objects.count() == 1


def test_a_message_is_consumed_once_within_one_transaction_too():
    with transaction.atomic():
        assert [consume_once("payments", "m-1") for _ in range(2)] == [True, False]


def test_each_consumer_has_its_own_messages():
    assert consume("m-1", "payments")
    assert consume("m-1", "refunds")
    assert consume("m-2", "payments")


def test_a_message_whose_work_failed_counts_as_unconsumed():
    @transaction.atomic
    def act():
        assert consume_once("payments", "m-1")
        raise WorkError

    with pytest.raises(WorkError):
        act()
    assert consume()


def test_a_message_outside_a_transaction_is_refused_and_not_remembered():
    with pytest.raises(TransactionManagementError, match="consume_once"):
        consume_once("payments", "m-1")
    assert not InboxMessage.objects.exists()


@pytest.mark.parametrize(
    ("consumer", "message_id"), [("", "m"), ("payments", ""), ("payments", "m" * 256), ("p" * 256, "m")]
)
def test_an_empty_or_too_long_name_is_refused(consumer, message_id):
    with pytest.raises(ValueError, match="1 to 255"):
        consume(message_id, consumer)


def test_the_longest_names_are_not_cut():
    assert consume("m" * 255, "p" * 255)
    assert consume("m" * 254 + "n", "p" * 255)


@pytest.mark.parametrize("column", ["consumer", "message_id"])
def test_the_database_refuses_a_message_without_a_name(column):
    with pytest.raises(IntegrityError, match="inbox_message_named"):
        InboxMessage.objects.create(**{"consumer": "c", "message_id": "m", column: ""})


def test_a_message_takes_one_statement_and_has_the_databases_time():
    before = read_clock()
    with transaction.atomic(), CaptureQueriesContext(connection) as captured:
        consume_once("payments", "m-1")
    assert len(captured) == 1
    assert before < InboxMessage.objects.get().received_at < read_clock()


# --- At once ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("is_committed", "then"), [(True, False), (False, True)], ids=["commit", "rollback"])
def test_a_second_delivery_waits_for_the_end_of_the_first(is_committed, then):
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            assert consume_once("payments", "m-1")
            second = pool.submit(at_once, consume)
            until_waiting(1)
            transaction.set_rollback(not is_committed)
        assert second.result(TIMEOUT_SECONDS) == [then]
    assert InboxMessage.objects.count() == 1


def test_one_of_many_concurrent_deliveries_is_handled():
    def act():
        with transaction.atomic():
            if consume_once("payments", "m-1"):
                TenantFactory()
                return True
            return False

    assert sorted(at_once(*[act] * 8)) == [False] * 7 + [True]


# --- Purge -----------------------------------------------------------------------------------------------------------


def test_messages_past_their_retention_are_deleted_and_younger_ones_stay(settings):
    settings.INBOX_RETENTION_SECONDS = 3600
    put(7, age=timedelta(hours=1))
    put(3, age=timedelta(minutes=59))
    assert inbox.purge(10) == Counts(deleted=7)
    assert InboxMessage.objects.count() == 3


@pytest.mark.parametrize("count", [5, 6])
def test_more_than_a_batch_is_deleted_in_one_run(count):
    put(count, age=timedelta(days=31))
    assert inbox.purge(3) == Counts(deleted=count)
    assert inbox.purge(3) == Counts()


def test_messages_of_one_instant_are_all_deleted():
    put(5, age=timedelta(days=31))
    InboxMessage.objects.update(received_at=InboxMessage.objects.first().received_at)
    assert inbox.purge(2) == Counts(deleted=5)


def test_a_purged_message_is_consumed_again():
    consume()
    InboxMessage.objects.update(received_at=F("received_at") - timedelta(days=31))
    assert not consume()
    inbox.purge(10)
    assert consume()


def test_rows_locked_by_another_purge_are_left_to_it():
    put(3, age=timedelta(days=31))
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '5s'")  # fail instead of waiting forever
    with psycopg.connect(**connection_parameters()) as other:
        other.execute("SELECT FROM inbox_message WHERE message_id LIKE '%-2' FOR UPDATE")
        assert inbox.purge(10) == Counts(deleted=2)
    assert inbox.purge(10) == Counts(deleted=1)
    connection.close()


def test_concurrent_purges_delete_each_message_once():
    put(50, age=timedelta(days=31))
    counts = at_once(*[lambda: inbox.purge(3)] * 3)
    assert sum(count.deleted for count in counts) == 50


def test_the_purger_also_deletes_messages():
    put(3, age=timedelta(days=31))
    assert purge.run_once() == purge.Counts(messages_deleted=3)


def test_the_purge_reads_no_more_than_its_batch_among_many_rows():
    put(20_000, age=timedelta(days=1))
    put(2_000, age=timedelta(days=31))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE inbox_message")
        cursor.execute(
            "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) "
            + maintenance_queries._DELETE_MESSAGES,
            (read_clock() - timedelta(days=30), 500),
        )
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "Index Scan using inbox_message_received" in plan
    assert "Tid Scan" in plan
    assert not any(word in plan for word in ("Seq Scan", "Rows Removed", "Sort"))
