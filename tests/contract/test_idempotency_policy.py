"""`/.well-known/idempotency` describes the behaviour of the service."""

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


def test_the_policy_is_public_and_read_only():
    assert policy().keys() == {"key", "ttl", "fingerprint", "stored", "answers"}
    problem(APIClient().post("/.well-known/idempotency"), 405, "method-not-allowed")


def test_the_limits_of_key_and_ttl_are_those_in_force(api):
    shown = policy()
    header, longest = shown["key"]["header"], shown["key"]["max_length"]
    assert header == "Idempotency-Key"
    accepted(post(api, key="k" * longest))
    problem(post(api, key="k" * (longest + 1)), 400, "idempotency-key-invalid")
    header = shown["ttl"]["header"].replace("-", "_")
    accepted(post(api, key="long", **{header: str(shown["ttl"]["max_seconds"])}))
    for key, seconds in (("longer", shown["ttl"]["max_seconds"] + 1), ("short", shown["ttl"]["min_seconds"] - 1)):
        problem(post(api, key=key, **{header: str(seconds)}), 400, "validation-failed")


def test_the_policy_shows_strict_syntax(api, settings):
    assert policy()["key"]["forms"] == ["quoted", "bare"]
    settings.IDEMPOTENCY_KEY_SYNTAX = "strict"
    assert policy()["key"]["forms"] == ["quoted"]
    problem(post(api, key="bare"), 400, "idempotency-key-invalid")
    accepted(post(api, key='"quoted"'))


@pytest.mark.parametrize("status", [409, 422])
def test_the_policy_shows_the_status_of_a_mismatch(api, settings, status):
    settings.IDEMPOTENCY_MISMATCH_STATUS = status
    accepted(post(api))
    assert policy()["answers"]["mismatch_status"] == post(api, charge(amount=1)).status_code == status


def test_the_policy_names_the_headers_that_are_sent(api):
    shown = policy()["answers"]
    answer = post(api)
    assert {shown["replayed_header"], shown["expires_header"]} <= set(answer.headers)
