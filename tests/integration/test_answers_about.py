"""A view's answers about a thing that was there (`subject`) can be found and erased; those that make things pay nothing."""

from __future__ import annotations

import re

import pytest
from django.db import connection
from rest_framework.response import Response

from idempotency import queries
from idempotency.http import idempotent, reservation
from idempotency.models import IdempotencyRecord
from tests.support.idempotent_view import OpenView, code_of, create_orders_table, drop_orders_table, send

pytestmark = pytest.mark.django_db

# 20,000 requests that made things, and two for each of 1,000 things that were there.
_FILL = """
    INSERT INTO idempotency_record
        (scope, key, fingerprint, fingerprint_version, fingerprint_kid, method, path, expires_at, subject)
    SELECT 'somebody', 'key-' || n, '', 1, 'k1', 'POST', '/', now() + interval '1 day',
        CASE WHEN n > 20000 THEN 'order/' || n % 1000 END
    FROM generate_series(1, 22000) AS n"""


@pytest.fixture(autouse=True)
def _shop(db, settings):
    settings.IDEMPOTENCY_SCOPE = "tests.support.idempotent_view.scope_of"
    create_orders_table()
    yield
    drop_orders_table()


class Closing(OpenView):
    """Closes an order that was there."""

    @idempotent(required=True, subject=lambda: "order/1")
    def post(self, request):
        return Response({"secret": 4242}, status=int(request.headers.get("X-Status", 200)))


class Making(OpenView):
    """Makes a new one."""

    @idempotent(required=True, store_errors=())
    def post(self, request):
        reservation(request).resource = "order/1"
        return Response({"secret": 4242}, status=201)


@pytest.mark.parametrize("status", [200, 409])
def test_an_answer_is_found_by_what_it_is_about_and_erased(status):
    send(view=Closing, HTTP_X_STATUS=str(status))
    assert queries.erase_by_subject("order/1") == 1
    assert IdempotencyRecord.objects.get().body is None
    told = send(view=Closing, HTTP_X_STATUS=str(status))
    assert code_of(told) == "PayloadErased"
    assert b'"resource":"order/1"' in told.content


def test_answers_about_others_and_of_what_makes_things_stay():
    send(view=Closing, key="about")
    send(view=Making, key="making")
    assert queries.erase_by_subject("order/2") == 0
    assert queries.erase_by_subject("order/1") == 1
    assert send(view=Making, key="making")["Idempotency-Replayed"] == "true"


def test_a_record_that_is_taken_over_is_about_what_the_new_request_is_about():
    send(view=Closing)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE idempotency_record SET created_at = created_at - interval '9 d', expires_at = now() - interval '8 d'"
        )
    send(view=Making)
    assert queries.erase_by_subject("order/1") == 0
    assert IdempotencyRecord.objects.get().subject is None


@pytest.mark.parametrize("statement", [queries._LOCK_BY_SUBJECT, queries._ERASE_BY_SUBJECT])
def test_they_are_found_by_an_index_that_holds_no_request_that_makes_things(statement):
    with connection.cursor() as cursor:
        cursor.execute(_FILL)
        cursor.execute("ANALYZE idempotency_record")
        cursor.execute("EXPLAIN " + statement, ["order/7"])
        plan = "\n".join(row[0] for row in cursor.fetchall())
        cursor.execute("SELECT pg_relation_size('idempotency_record_subject')")
        size = cursor.fetchone()[0]
    assert "Scan using idempotency_record_subject" in plan or "Scan on idempotency_record_subject" in plan
    assert "Seq Scan" not in plan
    assert size < 200_000  # 2,000 entries; 22,000 would be a megabyte


def test_no_index_holds_what_an_answer_or_a_replay_writes():
    """Both are then HOT updates: the accept of a request writes to each index once."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'idempotency_record'")
        indexes = dict(cursor.fetchall())
    assert "idempotency_record_subject" in indexes
    for column in ("status", "headers", "body", "resource", "replays", "last_replayed_at"):
        assert [name for name, text in indexes.items() if re.search(rf"\b{column}\b", text)] == []
