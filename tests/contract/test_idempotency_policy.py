"""`/.well-known/idempotency`: what it says is what is done."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from tests.support.client import accepted, charge, post, problem

pytestmark = pytest.mark.django_db


def policy():
    answer = APIClient().get("/.well-known/idempotency")
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/json")
    assert "max-age" in answer["Cache-Control"]
    return answer.json()


def test_anyone_may_read_it_and_nobody_write_it():
    assert policy().keys() == {"key", "ttl", "fingerprint", "stored", "answers"}
    problem(APIClient().post("/.well-known/idempotency"), 405, "method-not-allowed")


def test_the_bounds_of_a_key_and_its_time_are_those_in_force(api):
    told = policy()
    header, longest = told["key"]["header"], told["key"]["max_length"]
    assert header == "Idempotency-Key"
    accepted(post(api, key="k" * longest))
    problem(post(api, key="k" * (longest + 1)), 400, "idempotency-key-invalid")
    header = told["ttl"]["header"].replace("-", "_")
    accepted(post(api, key="long", **{header: str(told["ttl"]["max_seconds"])}))
    for key, seconds in (
        ("longer", told["ttl"]["max_seconds"] + 1),
        ("short", told["ttl"]["min_seconds"] - 1),
    ):
        problem(post(api, key=key, **{header: str(seconds)}), 400, "validation-failed")


def test_strict_syntax_is_told(api, settings):
    assert policy()["key"]["forms"] == ["quoted", "bare"]
    settings.IDEMPOTENCY_KEY_SYNTAX = "strict"
    assert policy()["key"]["forms"] == ["quoted"]
    problem(post(api, key="bare"), 400, "idempotency-key-invalid")
    accepted(post(api, key='"quoted"'))


@pytest.mark.parametrize("status", [409, 422])
def test_the_status_of_a_mismatch_is_told(api, settings, status):
    settings.IDEMPOTENCY_MISMATCH_STATUS = status
    accepted(post(api))
    assert policy()["answers"]["mismatch_status"] == post(api, charge(amount=1)).status_code == status


def test_the_headers_of_answers_are_those_that_are_sent(api):
    told = policy()["answers"]
    answer = post(api)
    assert {told["replayed_header"], told["expires_header"]} <= set(answer.headers)
