"""The Idempotency-Key header of POST /v1/jobs: which keys are accepted, and which spellings are the same key."""

from __future__ import annotations

import pytest

from idempotency.models import IdempotencyRecord
from jobs.models import Job
from tests.support.client import accepted, charge, post, problem

# A server joins two header lines into one value with a comma.
FOLDED = ["a,b", "a, b", '"a", "b"', "a,"]
MALFORMED = [
    "",
    " ",
    '""',
    "a b",
    "a;b",
    "a\\b",
    '"a',
    'a"',
    '"a" "b"',
    '"a";',
    '"a"b',
    "'a b'",
    "ä",
    "a\tb",
    "a\x7f",
    "a" * 256,
    f'"{"a" * 256}"',
]
# The longest keys, every allowed character, and what SDKs send.
WELL_FORMED = [
    "a",
    "a" * 255,
    f'"{"a" * 255}"',
    "0191f3a4-7a3c-7000-8000-000000000000",
    "!#$%&'()*+-./:<=>?@[]^_`{|}~",
    '"a, b; c"',
    '"with \\"quotes\\" and \\\\"',
]


def test_a_job_without_a_key_is_refused(api):
    problem(post(api, key=None), 400, "idempotency-key-missing")
    assert not Job.objects.exists()


@pytest.mark.parametrize("key", FOLDED + MALFORMED)
def test_a_malformed_key_is_refused(api, key):
    problem(post(api, key=key), 400, "idempotency-key-invalid")
    assert not Job.objects.exists()
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.parametrize("key", WELL_FORMED)
def test_a_well_formed_key_is_accepted_and_remembered(api, key):
    job = accepted(post(api, key=key))
    assert accepted(post(api, key=key))["id"] == job["id"]
    assert Job.objects.count() == 1


def test_the_quoted_and_the_bare_form_are_the_same_key(api):
    first = post(api, key="abc")
    for spelling in ['"abc"', '"abc";a=1', '"abc"; a;b="c, d"', '  "abc" ', " abc "]:
        again = post(api, key=spelling)
        assert again["Idempotency-Replayed"] == "true", spelling
        assert again.content == first.content
    assert Job.objects.count() == 1
    assert first.json()["idempotency_key"] == "abc"


def test_escapes_in_a_quoted_key_are_removed(api):
    assert accepted(post(api, key='"a\\"b"'))["idempotency_key"] == 'a"b'


def test_keys_differ_by_case(api):
    assert accepted(post(api, key="abc"))["id"] != accepted(post(api, key="ABC"))["id"]


def test_strict_syntax_accepts_only_the_quoted_form(api, settings):
    settings.IDEMPOTENCY_KEY_SYNTAX = "strict"
    problem(post(api, key="abc"), 400, "idempotency-key-invalid")
    first = post(api, key='"abc"')
    assert first["Idempotency-Replayed"] == "false"
    assert post(api, key='"abc";a=1').content == first.content


def test_a_bare_key_is_the_same_key_quoted_after_a_change_to_strict_syntax(api, settings):
    first = post(api, key="abc")
    settings.IDEMPOTENCY_KEY_SYNTAX = "strict"
    assert post(api, key='"abc"').content == first.content


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("key", ["a-key", "not a key"])
def test_requests_that_change_nothing_ignore_the_key(api, method, key):
    post(api, key="a-key")
    response = api.generic(method, "/v1/jobs", headers={"Idempotency-Key": key})
    assert response.status_code == 200
    assert "Idempotency-Replayed" not in response
    assert IdempotencyRecord.objects.count() == 1


def test_different_keys_start_different_jobs(api):
    bodies = [charge(), charge()]
    ids = {accepted(post(api, body, key=f"key-{number}"))["id"] for number, body in enumerate(bodies)}
    assert len(ids) == 2
