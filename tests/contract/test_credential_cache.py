"""API keys are remembered for a few seconds: what a client and an operator may rely on nevertheless."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import credential_cache as module
from accounts.credential_cache import credential_cache
from accounts.credentials import digest, new_credential
from accounts.models import ApiKey
from accounts.services import create_api_key, revoke_api_key
from config.checks import check_credential_cache

pytestmark = pytest.mark.django_db


@pytest.fixture
def credential(tenant):
    return create_api_key(tenant=tenant, mode="test")


def status(credential):
    return APIClient().get("/v1/operations", headers={"Authorization": f"Bearer {credential}"}).status_code


def statements(credential):
    with CaptureQueriesContext(connection) as queries:
        assert status(credential) == 200
    return len(queries)


def test_a_key_is_read_once_in_five_seconds(credential, advance_credentials):
    assert [statements(credential), statements(credential)] == [1, 0]
    advance_credentials(5)
    assert [statements(credential), statements(credential)] == [1, 0]


def test_a_key_is_refused_five_seconds_after_its_revocation(credential, advance_credentials):
    assert status(credential) == 200
    assert revoke_api_key(key_id=credential.id)
    advance_credentials(5)
    assert status(credential) == 401


def test_the_five_seconds_begin_before_the_key_is_read(credential, advance_credentials, monkeypatch):
    def read_slowly(**named):
        key = read(**named)
        revoke_api_key(key_id=credential.id)
        advance_credentials(60)
        return key

    read = module.find_live_key
    monkeypatch.setattr(module, "find_live_key", read_slowly)
    assert status(credential) == 200
    monkeypatch.setattr(module, "find_live_key", read)
    assert status(credential) == 401


def test_a_remembered_key_is_refused_once_it_has_expired(credential, advance_credentials):
    ApiKey.objects.update(expires_at=timezone.now() + timedelta(seconds=2))
    assert status(credential) == 200
    ApiKey.objects.update(expires_at=timezone.now())  # two seconds later, by the database's clock
    advance_credentials(2)
    assert status(credential) == 401


def test_without_the_cache_a_key_is_refused_at_once(credential, settings):
    settings.CREDENTIAL_CACHE_SECONDS = 0
    assert status(credential) == 200
    assert revoke_api_key(key_id=credential.id)
    assert status(credential) == 401


def test_the_secret_and_the_mode_of_a_remembered_key_are_compared_at_each_request(credential):
    assert status(credential) == 200
    assert status(f"test_{credential.id}_another-secret") == 401
    assert status(f"live_{credential.id}_{credential.secret}") == 401
    assert status(credential) == 200


def test_a_wrong_secret_costs_the_same_statements_as_an_unknown_id(credential):
    assert status(credential) == 200
    counts = []
    for wrong in (f"test_{credential.id}_another-secret", new_credential("test")):
        with CaptureQueriesContext(connection) as queries:
            assert status(wrong) == 401
        counts.append(len(queries))
    assert counts == [1, 1]


def test_a_key_that_was_unknown_works_as_soon_as_it_exists(tenant):
    credential = new_credential("test")
    assert status(credential) == 401
    ApiKey.objects.create(id=credential.id, tenant=tenant, mode="test", secret_sha256=digest(credential.secret))
    assert status(credential) == 200


def test_the_cache_has_a_maximum_size_and_drops_what_it_read_first(tenant, monkeypatch):
    monkeypatch.setattr(module, "MAX_KEYS", 2)
    first, second, third = (create_api_key(tenant=tenant, mode="test") for _ in range(3))
    assert [statements(key) for key in (first, second, third)] == [1, 1, 1]
    assert len(credential_cache._keys) == 2
    assert [statements(key) for key in (third, second, first)] == [0, 0, 1]


@pytest.mark.parametrize(("seconds", "codes"), [(0, []), (5, []), (5.1, ["semel.E014"]), (-1, ["semel.E014"])])
def test_a_cache_that_breaks_the_promise_is_a_configuration_error(settings, seconds, codes):
    settings.CREDENTIAL_CACHE_SECONDS = seconds
    assert [error.id for error in check_credential_cache()] == codes
