"""Erase stored responses by the existing resource (`subject`) that their requests acted on."""

from __future__ import annotations

import re

import pytest
from django.db import connection
from rest_framework.response import Response

from idempotency import queries
from idempotency.http import idempotent
from idempotency.models import IdempotencyRecord
from idempotency.records import Created
from tests.support.idempotent_view import OpenView, code_of, create_orders_table, drop_orders_table, send

pytestmark = pytest.mark.django_db

# 20,000 requests that created resources, and two for each of 1,000 existing resources.
_FILL = """
    INSERT INTO idempotency_record
        (scope, key, fingerprint, fingerprint_version, fingerprint_kid, method, path, expires_at, subject)
    SELECT 'owner', 'key-' || n, '', 1, 'k1', 'POST', '/', now() + interval '1 day',
        CASE WHEN n > 20000 THEN 'order/' || n % 1000 END
    FROM generate_series(1, 22000) AS n"""


@pytest.fixture(autouse=True)
def _shop(db, settings):
    settings.IDEMPOTENCY_SCOPE = "tests.support.idempotent_view.scope_of"
    create_orders_table()
    yield
    drop_orders_table()


class CloseOrder(OpenView):
    @idempotent(required=True, subject=lambda: "order/1")
    def post(self, request):
        return Response({"secret": 4242}, status=int(request.headers.get("X-Status", 200)))


class CreateOrder(OpenView):
    @idempotent(required=True, store_errors=(), creates=True)
    def post(self, request, reservation):
        return Created(Response({"secret": 4242}, status=201), "order/1")


@pytest.mark.parametrize("status", [200, 409])
def test_a_stored_response_is_found_by_its_subject_and_erased(status):
    send(view=CloseOrder, HTTP_X_STATUS=str(status))
    assert queries.erase_by_subject("order/1") == 1
    assert IdempotencyRecord.objects.get().response is None
    refused = send(view=CloseOrder, HTTP_X_STATUS=str(status))
    assert code_of(refused) == "PayloadErased"
    assert b'"resource":"order/1"' in refused.content


def test_responses_with_another_or_no_subject_stay():
    send(view=CloseOrder, key="about")
    send(view=CreateOrder, key="making")
    assert queries.erase_by_subject("order/2") == 0
    assert queries.erase_by_subject("order/1") == 1
    assert send(view=CreateOrder, key="making")["Idempotency-Replayed"] == "true"


def test_a_take_over_sets_the_subject_of_the_new_request():
    send(view=CloseOrder)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE idempotency_record SET created_at = created_at - interval '9 d', expires_at = now() - interval '8 d'"
        )
    send(view=CreateOrder)
    assert queries.erase_by_subject("order/1") == 0
    assert IdempotencyRecord.objects.get().subject is None


@pytest.mark.parametrize("statement", [queries._LOCK_BY_SUBJECT, queries._ERASE_BY_SUBJECT])
def test_records_are_found_by_a_partial_index(statement):
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


def test_no_index_holds_a_column_that_a_response_or_a_replay_writes():
    """Both are then HOT updates, so that accepting a request writes to each index once."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'idempotency_record'")
        indexes = dict(cursor.fetchall())
    assert "idempotency_record_subject" in indexes
    for column in ("status", "headers", "body", "resource", "replays", "last_replayed_at"):
        assert [name for name, text in indexes.items() if re.search(rf"\b{column}\b", text)] == []
