"""`manage.py doctor` against real servers, each with one problem: finding, level, meaning and what to do."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO

import pytest
from django.core.checks import ERROR, INFO, WARNING
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from devstack.ports import free_port
from idempotency.models import IdempotencyRecord
from jobs.states import State
from observability.doctor import findings as doctor_findings
from observability.doctor.checks import examine
from tests.support.broker_proxy import broker_proxy
from tests.support.factories import claimed_job, end_lease, make_due, queued_job
from tests.support.scenarios import in_state
from tests.support.valkey import running_valkey

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def valkey(tmp_path_factory):
    with running_valkey(tmp_path_factory.mktemp("doctor")) as valkey:
        yield valkey


@pytest.fixture
def broker(valkey, settings):
    """Return a client of the examined broker. Its changes are undone afterwards."""
    settings.REDIS_URL = valkey.url
    with valkey.client() as client:
        yield client
        client.flushall()


def found(check):
    """Return the worst finding of this check, or None. Every finding that is not ok must have a meaning and a hint."""
    findings = [finding for finding in examine() if finding.id == check]
    for finding in findings:
        _, _, meaning = finding.msg.partition("\n")
        assert (finding.level == INFO) == (not finding.hint) == (not meaning)
    return max(findings, key=lambda finding: finding.level, default=None)


def level(check):
    finding = found(check)
    return finding and finding.level


def run(sql, *values):
    with connection.cursor() as cursor:
        cursor.execute(sql, values or None)


@contextmanager
def altered(what, set_to, back):
    run(f"ALTER {what} {set_to}")
    try:
        yield
    finally:
        run(f"ALTER {what} {back}")


def database():
    return f'DATABASE "{connection.settings_dict["NAME"]}"'


def test_healthy_servers_have_no_findings_except_the_fsync_of_the_tests(broker):
    findings = {finding.id: finding for finding in examine()}
    wrong = {check for check, one in findings.items() if one.level > INFO and not check.startswith("settings.")}
    # The test server runs with fsync off, which is a real finding.
    assert wrong == {"database.durability"}
    assert "fsync" in findings["database.durability"].msg
    assert findings["database.durability"].level == ERROR
    assert findings.keys() >= {
        "broker.clock", "broker.memory", "broker.persistence", "broker.policy", "broker.queues", "broker.version",
        "database.autovacuum", "database.clock", "database.connections", "database.migrations",
        "database.session.api", "database.session.streams", "database.session.worker", "database.version",
        "database.writable", "work.fingerprint_keys", "work.oldest_due", "work.sweep", "storage.alive",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("check", "setting", "expected"),
    [
        ("database.durability", "synchronous_commit = off", ERROR),
        ("database.writable", "default_transaction_read_only = on", ERROR),
        ("database.session.api", "idle_session_timeout = '1h'", WARNING),
    ],
)
def test_a_database_setting_that_breaks_a_promise_is_found(broker, check, setting, expected):
    with altered(database(), f"SET {setting}", f"RESET {setting.split(' ')[0]}"):
        finding = found(check)
        assert finding.level == expected
        assert check.startswith("database.writable") or setting.split(" ")[0] in finding.msg


def test_a_pooler_that_drops_session_options_is_found(broker, settings):
    settings.POSTGRES_SESSION = dict.fromkeys(settings.POSTGRES_SESSION, "")
    with altered(
        database(), "SET default_transaction_isolation = 'repeatable read'", "RESET default_transaction_isolation"
    ):
        says = [one.msg for one in examine() if one.id == "database.session.worker"]
    assert any("repeatable read" in one for one in says)
    assert any("statement_timeout = 0" in one for one in says)


def test_a_table_without_autovacuum_or_fillfactor_is_found(broker):
    with altered("TABLE job_event", "SET (autovacuum_enabled = false)", "RESET (autovacuum_enabled)"):
        finding = found("database.autovacuum")
        assert (finding.level, "job_event" in finding.msg) == (ERROR, True)
    assert level("database.autovacuum") == INFO
    with altered("TABLE job", "RESET (fillfactor)", "SET (fillfactor = 70)"):
        assert level("database.fillfactor") == WARNING
    assert level("database.fillfactor") is None


def test_an_older_or_newer_schema_is_found(broker):
    run("UPDATE django_migrations SET name = '0999_later' WHERE app = 'jobs' AND name = '0001_initial'")
    try:
        finding = found("database.migrations")
        assert finding.level == ERROR
        assert "jobs.0001_initial" in finding.msg
        assert "manage.py migrate" in finding.hint
        run("INSERT INTO django_migrations (app, name, applied) VALUES ('jobs', '0001_initial', now())")
        finding = found("database.migrations")
        assert (finding.level, "jobs.0999_later" in finding.msg) == (WARNING, True)
    finally:
        run("DELETE FROM django_migrations WHERE name = '0999_later'")
    assert level("database.migrations") == INFO


def test_a_missing_fingerprint_key_is_found(broker):
    IdempotencyRecord.objects.create(
        scope="1:test", key="k", fingerprint=b"x", fingerprint_version=1, fingerprint_kid="long-gone",
        method="POST", path="/v1/jobs", expires_at=timezone.now() + timedelta(days=1),
    )  # fmt: skip
    finding = found("work.fingerprint_keys")
    assert (finding.level, "long-gone" in finding.msg) == (WARNING, True)


def test_a_job_that_has_been_due_for_long_is_found(broker, tenant):
    make_due(queued_job(tenant).id)
    assert level("work.oldest_due") == ERROR


def test_an_expired_lease_without_a_sweep_is_found(broker, tenant):
    end_lease(claimed_job(tenant).id)
    finding = found("work.sweep")
    assert (finding.level, "manage.py sweep" in finding.hint) == (ERROR, True)


def test_an_unknown_job_is_found(broker, tenant):
    in_state(tenant, State.UNKNOWN)
    assert level("work.unknown") == WARNING


@pytest.mark.parametrize(("seconds", "expected"), [(0, INFO), (5, WARNING), (-60, ERROR)])
def test_differing_clocks_are_found(broker, monkeypatch, seconds, expected):
    real = doctor_findings.time.time

    class Ours:
        @staticmethod
        def time():
            return real() + seconds

    monkeypatch.setattr(doctor_findings, "time", Ours)
    assert (level("database.clock"), level("broker.clock")) == (expected, expected)


@pytest.mark.parametrize(
    ("check", "setting", "wrong", "expected"),
    [
        ("broker.policy", "maxmemory-policy", "allkeys-lru", ERROR),
        ("broker.persistence", "appendonly", "no", WARNING),
        ("broker.memory", "maxmemory", "1", ERROR),
    ],
)
def test_a_broker_without_persistence_or_memory_is_found(broker, check, setting, wrong, expected):
    right = broker.config_get(setting)[setting]
    broker.config_set(setting, wrong)
    try:
        assert level(check) == expected
    finally:
        broker.config_set(setting, right)
    assert level(check) == INFO


def test_a_replica_as_broker_is_found(valkey, broker):
    with valkey.demoted():
        assert level("broker.role") == ERROR


def test_waiting_ticks_are_found(broker):
    broker.lpush("maintenance", *range(60))
    finding = found("broker.queues")
    assert (finding.level, "-Q maintenance" in finding.hint) == (ERROR, True)


def test_a_refused_password_is_found_but_not_shown(broker, valkey, settings):
    settings.REDIS_URL = valkey.url.replace("valkey-of-a-test", "another-password")
    finding = found("broker.reachable")
    assert finding.level == ERROR
    assert "another-password" not in repr(finding)


def test_a_silent_broker_costs_seconds(valkey, broker, settings):
    with broker_proxy(valkey.url) as proxy:
        settings.REDIS_URL = proxy.url
        proxy.fall_silent()
        began = timezone.now()
        assert level("broker.reachable") == ERROR
        assert timezone.now() - began < timedelta(seconds=20)


def test_servers_that_are_down_are_found(settings, monkeypatch):
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    monkeypatch.setitem(connection.settings_dict, "PORT", str(free_port()))
    assert level("broker.reachable") == ERROR
    assert level("database.reachable") == ERROR


def test_contradicting_settings_are_found(broker, settings):
    settings.HEARTBEAT_SECONDS = 30.0
    settings.PAYMENT_PROVIDER_URL = settings.PROVISION_DATABASE_URL = ""
    assert level("settings.semel.E001") == ERROR
    assert level("settings.payment_provider") == WARNING
    assert level("settings.provision_database") == WARNING


def test_an_unwritable_liveness_folder_is_found(broker, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ALIVE_DIR", str(tmp_path / "file" / "below"))
    assert level("storage.alive") == WARNING


def run_doctor(*options):
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("doctor", *options, stdout=out)
    return ended.value.code, out.getvalue()


def test_text_and_json_have_the_same_findings(broker):
    code, text = run_doctor()
    same, document = run_doctor("--json")
    report = json.loads(document)
    assert code == same == 2
    assert report["status"] == "error"
    for finding in report["findings"]:
        assert finding["check"] in text
        assert finding["do"] in text
    assert text.strip().splitlines()[-1].endswith("error")
