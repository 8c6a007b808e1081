"""Bodies of POST /v1/jobs that are refused before anything is stored, and bodies just within the limits."""

from __future__ import annotations

import json

import pytest

from idempotency.models import IdempotencyRecord
from jobs.models import Job
from tests.support.client import CHARGE, accepted, charge, pointers, post, problem

NOT_JSON = {
    "a repeated member": '{"operation": "test.anything", "params": {"value": 1, "value": 1}}',
    "a repeated member in another spelling": '{"operation": "a", "\\u006fperation": "a", "params": {}}',
    "NaN": '{"operation": "test.anything", "params": {"value": NaN}}',
    "Infinity": '{"operation": "test.anything", "params": {"value": Infinity}}',
    "-Infinity": '{"operation": "test.anything", "params": {"value": -Infinity}}',
    "a lone surrogate": '{"operation": "test.anything", "params": {"value": "\\ud800"}}',
    "a lone surrogate in a name": '{"operation": "test.anything", "params": {"value": {"\\udfff": 1}}}',
    "two low surrogates": '{"operation": "test.anything", "params": {"value": "\\udc00\\udc00"}}',
    "U+0000": '{"operation": "test.anything", "params": {"value": "a\\u0000b"}}',
    "U+0000 in a name": '{"operation": "test.anything", "params": {"value": {"\\u0000": 1}}}',
    "301 digits": '{"operation": "test.anything", "params": {"value": 1' + "0" * 300 + "}}",
    "301 digits after the point": '{"operation": "test.anything", "params": {"value": 0.' + "1" * 301 + "}}",
    "5000 digits": '{"operation": "test.anything", "params": {"value": ' + "9" * 5000 + "}}",
    "1e309": '{"operation": "test.anything", "params": {"value": 1e309}}',
    "1e-309": '{"operation": "test.anything", "params": {"value": 1e-309}}',
    "10e308": '{"operation": "test.anything", "params": {"value": 10e308}}',
    "0e999999999999": '{"operation": "test.anything", "params": {"value": 0e999999999999}}',
    "33 levels": '{"operation": "test.anything", "params": {"value": ' + "[" * 31 + "]" * 31 + "}}",
    "100000 levels": "[" * 100_000 + "]" * 100_000,
    "100000 open levels": '{"a":' * 50_000,
    "a byte order mark": "\ufeff" + json.dumps(CHARGE),
    "broken UTF-8": b'{"operation": "\xff"}',
    "UTF-16": json.dumps(CHARGE).encode("utf-16"),
    "two documents": json.dumps(CHARGE) * 2,
    "a trailing comma": '{"operation": "test.anything",}',
    "single quotes": "{'operation': 'test.anything'}",
    "a raw control character": '{"operation": "test.anything", "params": {"value": "\x01"}}',
    "white space only": " ",
    "a leading zero": '{"operation": "test.anything", "params": {"value": 01}}',
    "a plus sign": '{"operation": "test.anything", "params": {"value": +1}}',
}
INVALID = {
    "no members": ({}, {"/operation", "/params"}),
    "no operation": ({"params": {}}, {"/operation"}),
    "a number for the operation": ({**CHARGE, "operation": 1}, {"/operation"}),
    "a long operation": ({**CHARGE, "operation": "x" * 101}, {"/operation"}),
    "no params": ({"operation": "payments.charge"}, {"/params"}),
    "null for params": ({**CHARGE, "params": None}, {"/params"}),
    "a list for params": ({**CHARGE, "params": []}, {"/params"}),
    "an unknown member": ({**CHARGE, "param": {}}, {"/param"}),
    "an unknown member with a slash": ({**CHARGE, "a/b~": 1}, {"/a~1b~0"}),
    "an unknown param": (charge(amuont=1), {"/params/amuont"}),
    "every param missing": ({**CHARGE, "params": {}}, {"/params/amount", "/params/currency", "/params/source"}),
    "text for a number": (charge(amount="1999"), {"/params/amount"}),
    "true for a number": (charge(amount=True), {"/params/amount"}),
    "a fraction of a cent": (charge(amount=19.99), {"/params/amount"}),
    "null for a number": (charge(amount=None), {"/params/amount"}),
    "a number for text": (charge(source=1), {"/params/source"}),
    "empty text": (charge(source=""), {"/params/source"}),
    "text for metadata": ({**CHARGE, "metadata": "x"}, {"/metadata"}),
    "null for metadata": ({**CHARGE, "metadata": None}, {"/metadata"}),
    "a number in metadata": ({**CHARGE, "metadata": {"a": 1}}, {"/metadata"}),
    "51 metadata members": ({**CHARGE, "metadata": {str(n): "" for n in range(51)}}, {"/metadata"}),
    "a long metadata name": ({**CHARGE, "metadata": {"x" * 41: ""}}, {"/metadata"}),
    "an empty metadata name": ({**CHARGE, "metadata": {"": ""}}, {"/metadata"}),
    "a long metadata value": ({**CHARGE, "metadata": {"a": "x" * 501}}, {"/metadata"}),
    "several": ({"operation": 1, "x": 1, "priority": "l"}, {"/operation", "/params", "/x", "/priority"}),
    "a list": ([CHARGE], {""}),
    "a string": ("charge", {""}),
    "a number": (1, {""}),
    "null": (b"null", {""}),
}
ACCEPTED = {
    "32 levels": '{"operation": "test.anything", "params": {"value": ' + "[" * 30 + "]" * 30 + "}}",
    "300 digits": '{"operation": "test.anything", "params": {"value": ' + "9" * 300 + "}}",
    "1e308": '{"operation": "test.anything", "params": {"value": 1e308}}',
    "a surrogate pair": '{"operation": "test.anything", "params": {"value": "\\ud83d\\ude00"}}',
    "many brackets in a string": json.dumps({**CHARGE, "metadata": {"a": "[{" * 200}}),
    "null": '{"operation": "test.anything", "params": {"value": null}}',
    "full metadata": json.dumps({**CHARGE, "metadata": {f"{n:040}": "é" * 500 for n in range(50)}}),
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_malformed_or_ambiguous_json_is_refused(api, body):
    problem(post(api, body), 400, "malformed-json")
    assert not Job.objects.exists()
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.parametrize(("body", "expected"), INVALID.values(), ids=INVALID.keys())
def test_invalid_members_are_named(api, body, expected):
    document = problem(post(api, json.dumps(body) if isinstance(body, str) else body), 400, "validation-failed")
    assert pointers(document) == expected
    assert not Job.objects.exists()
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.parametrize("body", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_bodies_just_within_the_limits_are_accepted(api, body):
    first = post(api, body)
    accepted(first)
    assert post(api, body).content == first.content


@pytest.mark.parametrize("name", ["no.such", "payments.charge ", "Payments.charge", "", "a\nb"])
def test_an_operation_that_does_not_exist_is_refused(api, name):
    code = "unknown-operation" if name else "validation-failed"
    problem(post(api, {**CHARGE, "operation": name}), 400, code)


def test_an_empty_body_is_refused(api):
    response = post(api, b"")
    assert response.status_code == 400
    assert not Job.objects.exists()


def test_a_body_one_byte_above_the_limit_is_refused(api):
    limit = 256 * 1024
    head, tail = b'{"operation": "test.anything", "params": {"value": "', b'"}}'
    largest = head + b"x" * (limit - len(head) - len(tail)) + tail
    accepted(post(api, largest, key="fits"))
    problem(post(api, largest + b" "), 413, "payload-too-large")
    problem(post(api, b"x" * (10 * limit), content_type="text/plain"), 413, "payload-too-large")


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "multipart/form-data; boundary=x", "", "x"])
def test_a_body_of_another_media_type_is_refused(api, content_type):
    problem(post(api, content_type=content_type), 415, "unsupported-media-type")


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "identity, gzip", "GZIP"])
def test_a_compressed_body_is_refused(api, encoding):
    problem(post(api, Content_Encoding=encoding), 415, "unsupported-media-type")


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/json;v=1"]
)
def test_the_parameters_and_case_of_the_media_type_are_ignored(api, content_type):
    accepted(post(api, content_type=content_type, Content_Encoding="identity"))
