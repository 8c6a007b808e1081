"""`concurrency_key` of POST /v1/jobs: its valid values, and that the job document shows it."""

from __future__ import annotations

import pytest

from jobs.models import Job
from tests.support.client import CHARGE, accepted, post, problem


@pytest.mark.parametrize("key", ["a", "account 17", "x" * 255, "é" * 255, "\U0001f600", '"/\\%', " "])
def test_a_concurrency_key_is_shown_as_it_was_sent(api, key):
    document = accepted(post(api, {**CHARGE, "concurrency_key": key}))
    assert document["concurrency_key"] == key
    assert api.get(document["links"]["self"]).json()["concurrency_key"] == key
    assert Job.objects.get().accept_seq > 0


def test_a_job_without_a_concurrency_key_is_in_no_concurrency_queue(api):
    assert accepted(post(api))["concurrency_key"] is None
    assert Job.objects.get().accept_seq is None


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("", "blank"),
        ("x" * 256, "max_length"),
        ("a\nb", "not_printable"),
        ("a\tb", "not_printable"),
        ("\x7f", "not_printable"),
        ("a\u2028b", "not_printable"),
        ("a\u00a0b", "not_printable"),
        (17, "invalid"),
        (True, "invalid"),
        ([], "invalid"),
        ({"a": 1}, "invalid"),
        (None, "null"),
    ],
)
def test_an_invalid_concurrency_key_is_refused(api, value, code):
    document = problem(post(api, {**CHARGE, "concurrency_key": value}), 400, "validation-failed")
    assert [(error["pointer"], error["code"]) for error in document["errors"]] == [("/concurrency_key", code)]
    assert not Job.objects.exists()


def test_another_concurrency_key_is_another_request(api):
    body = {**CHARGE, "concurrency_key": "a"}
    first = post(api, body)
    for other in ({**CHARGE, "concurrency_key": "A"}, CHARGE):
        assert problem(post(api, other), 409, "idempotency-key-reused")["mismatch"] == ["/concurrency_key"]
    assert post(api, body).content == first.content
