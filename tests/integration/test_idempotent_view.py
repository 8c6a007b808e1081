"""`idempotent` around a DRF view method: the responses, and the rows afterwards."""

from __future__ import annotations

import json

import pytest
from django.db import connection, transaction
from django.http import HttpResponse, StreamingHttpResponse
from django.test.utils import CaptureQueriesContext
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.parsers import JSONParser
from rest_framework.response import Response

from idempotency import key_lifetime, queries, signals
from idempotency.accept import find_live
from idempotency.http import idempotent
from idempotency.models import IdempotencyRecord
from idempotency.response_format import decode_response
from tests.support import idempotent_view as shop
from tests.support.idempotent_view import OpenView, Orders, Refusal, code_of, count_orders, send

pytestmark = pytest.mark.django_db

HOUR = 3600


@pytest.fixture(autouse=True)
def _shop(request, settings, monkeypatch):
    request.getfixturevalue("transactional_db" if request.node.get_closest_marker("django_db").kwargs else "db")
    settings.IDEMPOTENCY_SCOPE = "tests.support.idempotent_view.scope_of"
    settings.IDEMPOTENCY_FINGERPRINT_KEYS = ["k1:one secret"]
    monkeypatch.setattr(key_lifetime, "_ended_filters", [])
    shop.create_orders_table()
    yield
    shop.drop_orders_table()


@pytest.fixture
def during(monkeypatch):
    """Return a function that sets what runs in the middle of the work."""
    return lambda action: monkeypatch.setattr(Orders, "during", lambda _view: action())


def backdate(seconds):
    """Move all records this many seconds into the past."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE idempotency_record SET created_at = created_at - make_interval(secs => %s),"
            " expires_at = expires_at - make_interval(secs => %s)",
            (seconds, seconds),
        )


def raise_(exc):
    raise exc


# --- Replay
# ------------------------------------------------------------------------------------------------------------


def test_a_replay_has_the_same_status_bytes_and_headers_and_runs_nothing():
    first, again = send(), send()
    assert (first.status_code, first.content) == (again.status_code, again.content)
    assert again["Location"] == first["Location"] == "/orders/1"
    assert again["Content-Type"] == first["Content-Type"]
    assert again["Idempotency-Expires"] == first["Idempotency-Expires"]
    assert (first["Idempotency-Replayed"], again["Idempotency-Replayed"]) == ("false", "true")
    assert count_orders() == 1


def test_cookies_and_request_ids_are_never_replayed():
    first, again = send(), send()
    assert "Set-Cookie" in first
    assert not {"Set-Cookie", "X-Request-Id"} & set(again.headers)
    stored = decode_response(bytes(IdempotencyRecord.objects.get().response))
    assert "session" not in str(stored.headers)


def test_another_spelling_of_the_same_json_is_the_same_request():
    first = send(b'{"amount": 10, "note": "caf\xc3\xa9"}')
    again = send(b'{ "note":"caf\\u00e9",\n"amount":1.0e1 }', content_type="application/json; charset=utf-8")
    assert again.content == first.content


def test_the_order_of_query_parameters_does_not_matter():
    first = send(path="/orders?b=2&a=1")
    assert send(path="/orders?a=1&b=2").content == first.content


def test_quoted_and_bare_spelling_are_the_same_key():
    assert send(key="abc").content == send(key='"abc";v=1').content
    assert count_orders() == 1


def test_a_response_without_content_type_is_replayed_without_one(during):
    def answer_nothing():
        response = HttpResponse(status=204)
        del response["Content-Type"]
        return response

    during(answer_nothing)
    assert ["Content-Type" in send(), "Content-Type" in send()] == [False, False]


def test_a_plain_django_response_is_replayed(during):
    during(lambda: HttpResponse(b"\x00\xff", content_type="image/png"))
    send()
    again = send()
    assert (again.content, again["Content-Type"]) == (b"\x00\xff", "image/png")


# --- Scope and comparison
# ------------------------------------------------------------------------------------------


def test_each_scope_has_its_own_keys():
    assert send(HTTP_X_SCOPE="a").content != send(HTTP_X_SCOPE="b").content
    assert count_orders() == 2


def test_another_body_under_the_key_is_refused_with_the_differing_members():
    send({"amount": 1, "to": {"name": "Ada", "iban": "secret-1"}})
    refused = send({"amount": 1, "to": {"name": "Ada", "iban": "secret-2"}, "extra": True})
    problem = json.loads(refused.content)
    assert problem["code"] == "KeyReused"
    assert problem["mismatch"] == ["/extra", "/to/iban"]
    assert problem["parts"] == ["body"]
    assert problem["resource"] == "order/1"
    assert problem["first_request_at"]
    assert b"secret" not in refused.content
    assert count_orders() == 1


@pytest.mark.parametrize(
    ("other", "parts"),
    [({"path": "/elsewhere"}, ["path"]), ({"path": "/orders?x=1"}, ["query"]), ({"method": "PUT"}, ["method"])],
)
def test_another_method_path_or_query_under_the_key_is_refused(other, parts):
    send()
    problem = json.loads(send(**other).content)
    assert (problem["code"], problem["parts"], problem["mismatch"]) == ("KeyReused", parts, [])


def test_a_body_where_the_first_request_had_none_differs_as_a_whole():
    send(b"")
    assert json.loads(send({"amount": 1}).content)["mismatch"] == [""]


def test_a_record_is_compared_under_its_own_secret_after_rotation(settings):
    first = send()
    settings.IDEMPOTENCY_FINGERPRINT_KEYS = ["k2:another secret", "k1:one secret"]
    assert send().content == first.content
    assert json.loads(send({"amount": 2}).content)["mismatch"] == ["/amount"]
    send(key="new")
    assert set(IdempotencyRecord.objects.values_list("key", "fingerprint_kid")) == {("k", "k1"), ("new", "k2")}


def test_a_lost_secret_is_a_clear_error_and_never_a_second_run(settings):
    send()
    settings.IDEMPOTENCY_FINGERPRINT_KEYS = ["k2:another secret"]
    assert code_of(send()) == "FingerprintUnverifiable"
    assert count_orders() == 1


# --- The header
# ----------------------------------------------------------------------------------------------------------


def test_a_missing_key_is_refused_if_it_is_required():
    assert code_of(send(key=None)) == "KeyMissing"
    assert count_orders() == 0


@pytest.mark.parametrize("key", ["", "a,b", '"a","b"', "x" * 256])
def test_a_malformed_key_is_refused(key):
    assert code_of(send(key=key)) == "KeyInvalid"


def test_strict_syntax_accepts_only_the_quoted_form(settings):
    settings.IDEMPOTENCY_KEY_SYNTAX = "strict"
    assert code_of(send(key="abc")) == "KeyInvalid"
    assert send(key='"abc"').status_code == 201


def test_without_an_optional_key_the_view_runs_each_time():
    class Optional(OpenView):
        @idempotent(required=False, validate=lambda *_: "checked", creates=True)
        def post(self, request, *, validated, reservation):
            assert reservation is None
            shop.place_order()
            return Response(validated)

    answers = [send(view=Optional, key=None) for _ in range(2)]
    assert [json.loads(answer.content) for answer in answers] == ["checked", "checked"]
    assert not any("Idempotency-Replayed" in answer for answer in answers)
    assert (count_orders(), IdempotencyRecord.objects.count()) == (2, 0)


def test_the_key_is_ignored_on_get(monkeypatch):
    class Listing(OpenView):
        @idempotent(required=True)
        def get(self, request):
            return Response([])

    assert send(b"", view=Listing, method="GET", key="not, a key").status_code == 200
    assert not IdempotencyRecord.objects.exists()


def test_the_first_requests_ttl_applies_and_is_not_compared():
    assert code_of(send(HTTP_IDEMPOTENCY_TTL="60")) == "TtlInvalid"
    first = send(HTTP_IDEMPOTENCY_TTL=str(2 * HOUR))
    again = send(HTTP_IDEMPOTENCY_TTL=str(9 * HOUR))
    assert again["Idempotency-Expires"] == first["Idempotency-Expires"]
    record = IdempotencyRecord.objects.get()
    assert (record.expires_at - record.created_at).total_seconds() == 2 * HOUR


def test_without_a_ttl_header_the_setting_applies(settings):
    settings.IDEMPOTENCY_TTL_SECONDS = 5 * HOUR
    send()
    record = IdempotencyRecord.objects.get()
    assert (record.expires_at - record.created_at).total_seconds() == 5 * HOUR


# --- Refusals and failures
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":2}',
        b"{",
        b'{"a":NaN}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\u0000"}',
        b"[" * 33 + b"]" * 33,
        b"[" * 100_000,
    ],
    ids=["repeated key", "cut", "NaN", "surrogate", "NUL", "33 levels", "100,000 levels"],
)
def test_an_ambiguous_body_is_refused_and_the_key_stays_free(body):
    assert code_of(send(body)) == "MalformedJson"
    assert send().status_code == 201


def test_an_ambiguous_body_is_refused_under_any_parser():
    class Lossy(Orders):
        parser_classes = (JSONParser,)

    assert code_of(send(b'{"a":1,"a":2}', view=Lossy)) == "MalformedJson"
    send(b'{"amount":1.0000000000000000000001}', view=Lossy)
    assert code_of(send(b'{"amount":1.0000000000000000000002}', view=Lossy)) == "KeyReused"


def test_a_compressed_body_is_refused():
    assert code_of(send(HTTP_CONTENT_ENCODING="gzip")) == "UnsupportedContentEncoding"
    assert send(HTTP_CONTENT_ENCODING="identity").status_code == 201


def test_another_media_type_is_refused_before_anything_is_stored():
    assert send(b"amount=1", content_type="text/plain").status_code == 415
    assert send().status_code == 201


@pytest.mark.parametrize(
    "refuse",
    [
        lambda: raise_(NotFound()),
        lambda: raise_(ValidationError("no")),
        lambda: raise_(Refusal(503)),
        lambda: Response(status=429),
        lambda: Response(status=500),
    ],
)
def test_other_errors_undo_everything_and_leave_the_key_free(during, refuse):
    during(refuse)
    assert "Idempotency-Replayed" not in send()
    assert (count_orders(), IdempotencyRecord.objects.count()) == (0, 0)
    during(lambda: None)
    assert send({"amount": 2}).status_code == 201


def test_an_unexpected_exception_undoes_everything_and_leaves_the_key_free(during):
    during(lambda: raise_(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        send()
    assert (count_orders(), IdempotencyRecord.objects.count()) == (0, 0)


@pytest.mark.parametrize("refuse", [lambda: raise_(Refusal(402)), lambda: Response({"code": "declined"}, status=402)])
def test_a_final_refusal_undoes_the_work_and_is_stored(during, refuse):
    during(refuse)
    first = send()
    during(lambda: None)
    again = send()
    assert first.status_code == again.status_code == 402
    assert (first.content, again["Idempotency-Replayed"]) == (again.content, "true")
    assert count_orders() == 0
    assert IdempotencyRecord.objects.get().resource is None


def test_a_response_that_cannot_be_rendered_undoes_the_work(during):
    during(lambda: Response(object()))
    with pytest.raises(TypeError):
        send()
    assert (count_orders(), IdempotencyRecord.objects.count()) == (0, 0)


def test_a_streaming_response_is_refused_and_the_work_undone(during):
    during(lambda: StreamingHttpResponse(iter([b"x"])))
    with pytest.raises(TypeError, match="streaming"):
        send()
    assert (count_orders(), IdempotencyRecord.objects.count()) == (0, 0)


def test_a_response_too_large_to_store_never_leads_to_a_second_run(during, settings):
    settings.IDEMPOTENCY_STORED_RESPONSE_MAX_BYTES = 100
    during(lambda: Response({"data": "x" * 100}, status=201, headers={"Location": "/orders/7"}))
    assert len(send().content) > 100
    again = send()
    assert (again.status_code, again.content, again["Location"]) == (201, b"", "/orders/7")
    assert again["Idempotency-Body-Omitted"] == "true"
    assert count_orders() == 1


def test_a_retry_after_an_erasure_is_refused_and_runs_nothing():
    send()
    assert queries.erase_payload(IdempotencyRecord.objects.get().pk)
    problem = json.loads(send().content)
    assert (problem["code"], problem["resource"]) == ("PayloadErased", "order/1")
    assert code_of(send({"amount": 2})) == "KeyReused"
    assert count_orders() == 1


def test_5xx_responses_cannot_be_declared_final():
    with pytest.raises(ValueError, match="4xx"):
        idempotent(required=True, store_errors=(503,))


# --- Validation
# --------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_validation_runs_outside_the_transaction_and_not_for_a_replay():
    calls = []

    def validate(view, request, number):
        calls.append(connection.in_atomic_block)
        if request.data["amount"] < 0:
            raise ValidationError("negative")
        return request.data["amount"] * 2

    class Checked(OpenView):
        @idempotent(required=True, validate=validate, store_errors=())
        def post(self, request, number, *, validated):
            return Response([number, validated])

    send_to = lambda amount: send({"amount": amount}, view=_with_kwargs(Checked, number=7))  # noqa: E731
    assert send_to(-1).status_code == 400
    assert json.loads(send_to(4).content) == [7, 8]
    assert json.loads(send_to(4).content) == [7, 8]
    assert calls == [False, False]


def _with_kwargs(view, **kwargs):
    class Routed(view):
        def dispatch(self, request):
            return super().dispatch(request, **kwargs)

    return Routed


# --- Expiry
# --------------------------------------------------------------------------------------------------------------


def test_an_expired_key_starts_a_new_request():
    first = send()
    backdate(25 * HOUR)
    second = send({"amount": 2})
    assert second["Idempotency-Replayed"] == "false"
    assert second.content != first.content
    assert (count_orders(), IdempotencyRecord.objects.get().owner) == (2, 1)


def test_an_expired_key_is_not_free_before_its_resource_has_ended(monkeypatch):
    ended = set()
    key_lifetime.register_ended_filter(lambda resources: ended & set(resources))
    first = send()
    backdate(25 * HOUR)
    again = send()
    assert (again.content, again["Idempotency-Replayed"]) == (first.content, "true")
    assert code_of(send({"amount": 2})) == "KeyReused"
    ended.add("order/1")
    assert send({"amount": 2})["Idempotency-Replayed"] == "false"


def test_a_failed_take_over_leaves_the_expired_record_unchanged(during):
    send()
    backdate(25 * HOUR)
    before = IdempotencyRecord.objects.values().get()
    during(lambda: raise_(NotFound()))
    send({"amount": 2})
    assert IdempotencyRecord.objects.values().get() == before


# --- Cost, time-outs and signals
# --------------------------------------------------------------------------------------


def statements(call):
    with CaptureQueriesContext(connection) as captured:
        call()
    return [query["sql"].strip().split("\n")[0][:40] for query in captured]


@pytest.mark.django_db(transaction=True)
def test_a_first_request_in_a_transaction_costs_four_round_trips_and_a_replay_one():
    class Empty(OpenView):
        @idempotent(required=True, store_errors=())
        def post(self, request):
            return Response({})

    first = statements(lambda: send(view=Empty))
    # One flush has the time-outs, the reservation and the end of the time-outs.
    assert [sql.split()[0] for sql in first] == [
        "SELECT",
        "BEGIN",
        "SELECT",
        "INSERT",
        "SET",
        "SET",
        "UPDATE",
        "COMMIT",
    ]
    again = statements(lambda: send(view=Empty))
    assert [sql.split()[0] for sql in again] == ["SELECT"]


@pytest.mark.django_db(transaction=True)
def test_the_work_runs_under_the_connections_time_outs(during):
    def read_timeouts():
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('lock_timeout'), current_setting('statement_timeout')")
            return Response(cursor.fetchone())

    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('lock_timeout'), current_setting('statement_timeout')")
        own = list(cursor.fetchone())
    during(read_timeouts)
    assert json.loads(send().content) == own
    assert "50ms" not in own


@pytest.mark.django_db(transaction=True)
def test_it_refuses_to_run_inside_another_transaction():
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        send()


def test_signals_report_accepted_replayed_and_mismatched_requests():
    facts = []
    receivers = {
        name: lambda name=name, **fact: facts.append((name, fact["record_id"]))
        for name in ("accepted", "replayed", "mismatched")
    }
    for name, receiver in receivers.items():
        getattr(signals, name).connect(receiver)
    try:
        send()
        send()
        send({"amount": 2})
    finally:
        for name, receiver in receivers.items():
            getattr(signals, name).disconnect(receiver)
    record_id = IdempotencyRecord.objects.get().pk
    assert facts == [("accepted", record_id), ("replayed", record_id), ("mismatched", record_id)]


def test_extending_the_expiry_never_shortens_it():
    send(HTTP_IDEMPOTENCY_TTL=str(10 * HOUR))
    record = queries.lock_record(IdempotencyRecord.objects.get().pk)
    assert queries.extend_expiry(record.id, ttl_seconds=HOUR)
    assert queries.lock_record(record.id).expires_at == record.expires_at
    assert queries.extend_expiry(record.id, ttl_seconds=20 * HOUR)
    assert queries.lock_record(record.id).expires_at > record.expires_at
    assert queries.lock_record(record.id + 1) is None


def test_look_up_uses_the_unique_index_among_many_rows():
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO idempotency_record
                (scope, key, fingerprint, fingerprint_version, fingerprint_kid, method, path, expires_at)
            SELECT 'owner', 'key-' || n, '', 1, 'k1', 'POST', '/', now() + interval '1 day'
            FROM generate_series(1, 20000) AS n
            """
        )
        cursor.execute("ANALYZE idempotency_record")
        cursor.execute("EXPLAIN " + queries._FIND, ("owner", "key-777"))
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "Index Scan using idempotency_record_scope_key" in plan
    assert find_live(scope="owner", key="key-777").record is not None
