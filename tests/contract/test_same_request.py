"""Two bodies are the same request if their JSON values are exactly equal, no matter how they are written."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from jobs.models import Job
from tests.support.client import accepted, charge, post, problem

PLAIN = '{"operation": "payments.charge", "params": {"amount": 1999, "currency": "usd", "source": "tok_visa"}}'
SAME = {
    "no white space": PLAIN.replace(" ", ""),
    "much white space": PLAIN.replace(" ", " \r\n\t "),
    "space around": f" \n{PLAIN}\n ",
    "another order": '{"params": {"source": "tok_visa", "currency": "usd", "amount": 1999}, "operation": "payments.charge"}',
    "escapes": PLAIN.replace("usd", "\\u0075sd").replace('"amount"', '"\\u0061mount"'),
    "a point": PLAIN.replace("1999", "1999.0"),
    "many zeros": PLAIN.replace("1999", "1999.000000000000000000000000"),
    "an exponent": PLAIN.replace("1999", "1.999e3"),
    "a capital exponent": PLAIN.replace("1999", "1999E+0"),
    "a negative exponent": PLAIN.replace("1999", "19990e-1"),
}
# Pairs of equal JSON values, and pairs that differ, some beyond the precision of a double.
EQUAL = [
    ("0", "-0"),
    ("0", "-0.0"),
    ("0", "0e308"),
    ("1", "1.0"),
    ("0.1", "1e-1"),
    ("1e308", "10e307"),
    ('"a/b"', '"a\\/b"'),
    ('"\\ud83d\\ude00"', '"😀"'),
    ('"é"', '"\\u00e9"'),
    ("[1, 2]", "[ 1,2 ]"),
    ('{"a": 1, "b": null}', '{"b": null, "a": 1.0}'),
]
DIFFERENT = [
    ("9007199254740993", "9007199254740992"),
    ("0.1", "0.1000000000000000055511151231257827"),
    ("123456789012345678901234567890", "123456789012345678901234567891"),
    ("1e-308", "1.0000000000000000000000001e-308"),
    ("1", '"1"'),
    ("1", "true"),
    ("0", "false"),
    ("0", "null"),
    ('""', "null"),
    ("[]", "{}"),
    ("[1, 2]", "[2, 1]"),
    ('"é"', '"e\\u0301"'),
    ('{"a": null}', "{}"),
    ('"a"', '"A"'),
    ('"a"', '"a "'),
]
EXACT = [
    "9007199254740993",
    "18446744073709551617",
    "123456789012345678901234567890.123456789012345678901234567890",
    "-0.1",
    "9" * 300,
    "1.5e-300",
    '"\\"\\\\ / é 😀 \\u001f \\u2028"',
    '{"b": [1, {"a": []}], "a": {}}',
]


def anything(value: str) -> str:
    return f'{{"operation": "test.anything", "params": {{"value": {value}}}}}'


@pytest.mark.parametrize("body", SAME.values(), ids=SAME.keys())
def test_the_same_json_value_written_differently_is_replayed(api, body):
    first = post(api, PLAIN)
    accepted(first)
    again = post(api, body)
    assert again["Idempotency-Replayed"] == "true"
    assert again.content == first.content
    assert Job.objects.count() == 1


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_equal_values_are_the_same_request(api, one, other):
    first = post(api, anything(one))
    accepted(first)
    assert post(api, anything(other)).content == first.content


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_values_are_different_requests(api, one, other):
    accepted(post(api, anything(one)))
    document = problem(post(api, anything(other)), 409, "idempotency-key-reused")
    assert document["mismatch"] == ["/params/value"]


@pytest.mark.parametrize("value", EXACT)
def test_a_job_shows_the_exact_value_that_was_sent(api, value):
    job = post(api, anything(value))
    shown = api.get(job["Location"]).content.decode()
    for text in (job.content.decode(), shown):
        params = text.partition('"params":{"value":')[2]
        document, _end = json.JSONDecoder(parse_float=Decimal).raw_decode(params)
        assert document == json.loads(value, parse_float=Decimal)


def test_a_default_that_is_written_out_is_another_request(api):
    post(api, charge())
    problem(post(api, charge(description="")), 409, "idempotency-key-reused")
