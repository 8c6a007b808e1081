"""Tenants, API keys and the audit log in the admin."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.db import transaction
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import audit
from accounts.credentials import parse_credential
from accounts.models import ApiKey, AuditEntry, Tenant
from tests.support.admin_pages import client_of, text_of, user_with
from tests.support.factories import TenantFactory, new_api_key, queued_job

pytestmark = pytest.mark.django_db

TENANTS, KEYS, AUDIT = "/admin/accounts/tenant/", "/admin/accounts/apikey/", "/admin/accounts/auditentry/"
READ_ONLY = ("view_tenant", "view_apikey", "view_auditentry")


@pytest.fixture
def reader():
    return client_of(user_with(*READ_ONLY))


@pytest.fixture
def operator():
    return client_of(user_with(*READ_ONLY, "add_tenant", "add_apikey", "change_apikey", name="grace"))


def form_data(client, tenant, **changes):
    """Return the data of the form for a new key, with these changes."""
    html = client.get(f"{KEYS}add/").content.decode()
    key_id = re.search(r'name="key_id" value="(\w+)"', html)[1]
    return {"tenant": tenant.id, "mode": "test", "key_id": key_id, **changes}


def credential_in(answer):
    return re.search(r"(test|live)_[0-9a-f]{16}_[\w-]{40,}", answer.content.decode())[0]


# --- API keys ---


def test_a_new_key_is_shown_once_and_works_and_is_audited(tenant, operator):
    answer = operator.post(f"{KEYS}add/", form_data(operator, tenant))
    credential = credential_in(answer)
    assert "no-store" in answer["Cache-Control"]
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {credential}")
    assert client.get("/v1/jobs").status_code == 200
    [entry] = AuditEntry.objects.filter(action="key.create", actor="user grace")
    assert entry.subject == f"api-key/{ApiKey.objects.get().id}"
    assert parse_credential(credential).secret not in str(entry.details)


def test_the_secret_is_not_stored_in_pages_sessions_or_cookies(tenant, operator):
    answer = operator.post(f"{KEYS}add/", form_data(operator, tenant))
    secret = parse_credential(credential_in(answer)).secret
    for path in (KEYS, f"{TENANTS}{tenant.id}/", AUDIT, f"{KEYS}add/", "/admin/"):
        assert secret not in operator.get(path).content.decode()
    assert all(secret not in str(session.get_decoded()) for session in Session.objects.all())
    assert all(secret not in morsel.value for morsel in [*answer.cookies.values(), *operator.cookies.values()])


def test_a_form_sent_twice_creates_one_key_and_shows_it_once(tenant, operator):
    data = form_data(operator, tenant)
    credential_in(operator.post(f"{KEYS}add/", data))
    again = operator.post(f"{KEYS}add/", data)
    assert "The secret is not shown again" in text_of(again)
    assert ApiKey.objects.count() == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key_id": "abc"}, "This form is damaged"),
        ({"mode": "both"}, "Select a valid choice"),
        ({"tenant": 0}, "Select a valid choice"),
        ({"expires_at": "2001-01-01T00:00"}, "This time is in the past"),
    ],
)
def test_an_invalid_key_form_creates_no_key(tenant, operator, changes, message):
    answer = operator.post(f"{KEYS}add/", {**form_data(operator, tenant), **changes})
    assert message in answer.content.decode()
    assert not ApiKey.objects.exists()


def test_a_key_can_have_an_expiry_and_the_admin_scope(tenant, operator):
    soon = timezone.now() + timedelta(hours=2)
    operator.post(
        f"{KEYS}add/", form_data(operator, tenant, is_admin="on", expires_at=f"{soon:%Y-%m-%dT%H:%M}", mode="live")
    )
    key = ApiKey.objects.get()
    assert (key.is_admin, key.mode, key.tenant) == (True, "live", tenant)
    assert abs(key.expires_at - soon) < timedelta(minutes=1)


def test_a_revoked_key_is_refused_within_five_seconds(tenant, operator, advance_credentials):
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {new_api_key(tenant)}")
    key = ApiKey.objects.get()
    address = f"{KEYS}{key.id}/revoke/"
    assert address in operator.get(KEYS).content.decode()
    assert operator.get(address).status_code == 200
    assert client.get("/v1/jobs").status_code == 200
    for _ in range(2):
        assert operator.post(address, {"note": "It stood in a log."}).status_code == 302
    advance_credentials(5)
    assert client.get("/v1/jobs").status_code == 401
    [entry] = AuditEntry.objects.filter(action="key.revoke")
    assert (entry.actor, entry.note) == ("user grace", "It stood in a log.")
    assert address not in operator.get(KEYS).content.decode()


# --- Tenants ---


def test_a_new_tenant_has_a_page_with_its_keys(operator):
    answer = operator.post(f"{TENANTS}add/", {"name": "acme"}, follow=True)
    tenant = Tenant.objects.get(name="acme")
    assert answer.redirect_chain == [(f"{TENANTS}{tenant.id}/", 302)]
    assert AuditEntry.objects.filter(action="tenant.create", actor="user grace", subject="tenant/acme").exists()
    assert "A tenant with this name already exists" in text_of(operator.post(f"{TENANTS}add/", {"name": "acme"}))
    new_api_key(tenant)
    assert str(ApiKey.objects.get()) in text_of(operator.get(f"{TENANTS}{tenant.id}/"))


def test_tenants_are_found_by_the_start_of_their_name(reader):
    TenantFactory(name="acme"), TenantFactory(name="bolt")
    text = text_of(reader.get(TENANTS, {"name": "ac"}))
    assert "acme" in text
    assert "bolt" not in text
    assert "No tenants match" in text_of(reader.get(TENANTS, {"name": "\x00"}))


# --- Permissions ---


@pytest.mark.parametrize("path", [f"{TENANTS}add/", f"{KEYS}add/", "{revoke}"])
def test_a_read_only_user_is_refused_and_sees_no_button(tenant, reader, path):
    new_api_key(tenant)
    revoke = f"{KEYS}{ApiKey.objects.get().id}/revoke/"
    address = path.format(revoke=revoke)
    for answer in (reader.get(address), reader.post(address, {"name": "x"})):
        assert answer.status_code == 403
    for page in (TENANTS, KEYS, f"{TENANTS}{tenant.id}/"):
        html = reader.get(page).content.decode()
        assert address not in html.replace("add/?tenant", "add/")
    assert ApiKey.objects.filter(revoked_at=None).count() == 1


@pytest.mark.parametrize("path", [TENANTS, KEYS, AUDIT])
def test_each_list_needs_its_own_permission(path):
    assert client_of(user_with("view_job")).get(path).status_code == 403


# --- The audit log ---


def entries(count, **facts):
    with transaction.atomic():
        for number in range(count):
            audit.record(actor="user ada", action="job.cancel", subject=f"job/{number}", **facts)


def subjects(answer):
    return re.findall(r'class="key"><a [^>]*>([^<]+)<', answer.content.decode())


def test_the_audit_log_is_paged(reader, monkeypatch):
    monkeypatch.setattr("operators.admin.list_page.ROWS", 4)
    entries(10)
    seen, address = [], AUDIT
    while address:
        answer = reader.get(address)
        seen += subjects(answer)
        found = re.search(r'rel="next" href="([^"]+)"', answer.content.decode())
        address = found and AUDIT + found[1].replace("&amp;", "&")
    assert seen == [f"job/{number}" for number in range(9, -1, -1)]


def test_the_audit_log_is_filtered_by_subject_actor_and_action(reader):
    entries(3)
    with transaction.atomic():
        audit.record(actor="user grace", action="pause", subject="pause/1", note="<b>why</b>", details={"a": 1})
    assert subjects(reader.get(AUDIT, {"subject": "job/1"})) == ["job/1"]
    assert subjects(reader.get(AUDIT, {"actor": "user grace"})) == ["pause/1"]
    assert len(subjects(reader.get(AUDIT, {"action": "job.cancel"}))) == 3
    assert "<b>why</b>" not in reader.get(AUDIT).content.decode()


def test_an_audit_entry_links_to_its_job(tenant, reader):
    job = queued_job(tenant)
    with transaction.atomic():
        audit.record(actor="user ada", action="job.cancel", subject=job.resource)
    assert f'href="/admin/jobs/job/{job.id}/"' in reader.get(AUDIT).content.decode()


@pytest.mark.parametrize("path", ["add/", "1/change/", "1/delete/", "1/"])
def test_the_audit_log_cannot_be_edited(admin_client, path):
    entries(1)
    assert admin_client.get(AUDIT + path).status_code == 404
    assert admin_client.post(AUDIT + path).status_code == 404
