"""The management commands, as an operator types them."""

from __future__ import annotations

import re
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.credentials import parse_credential
from accounts.models import ApiKey
from accounts.services import revoke_api_key
from idempotency.models import IdempotencyRecord
from jobs.models import Job
from jobs.states import State
from tests.support.factories import claimed_job, end_lease, make_due, queued_job

pytestmark = pytest.mark.django_db


def output_of(*words, **options):
    out = StringIO()
    call_command(*words, stdout=out, stderr=StringIO(), **options)
    return out.getvalue()


def listing(key):
    return APIClient().get("/v1/jobs", headers={"Authorization": f"Bearer {key}"}).status_code


def test_a_new_api_key_works_until_it_is_revoked(advance_credentials):
    assert "acme" in output_of("create_tenant", "acme")
    key = output_of("create_api_key", "acme", "--mode", "live").strip()
    assert key.startswith("live_")
    assert listing(key) == 200
    assert revoke_api_key(key_id=ApiKey.objects.get().id)
    advance_credentials(5)
    assert listing(key) == 401


def test_the_secret_of_a_key_is_nowhere_in_the_database():
    output_of("create_tenant", "acme")
    key = output_of("create_api_key", "acme", "--mode", "test", "--admin").strip()
    row = ApiKey.objects.get()
    assert row.is_admin
    assert parse_credential(key).secret.encode() not in bytes(row.secret_sha256)
    assert len(bytes(row.secret_sha256)) == 32


def test_a_tenants_name_is_unique():
    output_of("create_tenant", "acme")
    with pytest.raises(CommandError, match="acme"):
        output_of("create_tenant", "acme")
    assert "already" in output_of("create_tenant", "acme", "--exist-ok")


def test_a_key_needs_an_existing_tenant():
    with pytest.raises(CommandError, match="create_tenant nobody"):
        output_of("create_api_key", "nobody", "--mode", "test")


def test_sweep_reports_its_counts(tenant):
    end_lease(claimed_job(tenant).id)
    make_due(queued_job(tenant).id)
    assert output_of("sweep").startswith("expired: 1, lapsed: 0, hinted: ")
    assert not Job.objects.filter(state=State.RUNNING).exists()


def test_purge_reports_its_counts():
    now = timezone.now()
    IdempotencyRecord.objects.create(
        scope="1:test",
        key="k",
        fingerprint=b"",
        fingerprint_version=1,
        fingerprint_kid="k1",
        method="POST",
        path="/v1/jobs",
        created_at=now - timedelta(hours=2),
        expires_at=now - timedelta(hours=1),
    )
    output = output_of("purge")
    assert re.fullmatch(r"keys_deleted: 1(, \w+: 0)+\n", output), output
    assert not IdempotencyRecord.objects.exists()
