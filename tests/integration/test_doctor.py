"""`manage.py doctor` against real servers, each wrong in one way: what it finds, how bad that is, and that it says what to do."""

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
    """A client of the broker that is examined; what it is told is taken back."""
    settings.REDIS_URL = valkey.url
    with valkey.client() as client:
        yield client
        client.flushall()


def found(check):
    """The finding of this check, which says what to do unless all is well; None where there is none."""
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


def test_nothing_is_wrong_with_sound_servers_but_that_tests_do_not_wait_for_the_disk(broker):
    findings = {finding.id: finding for finding in examine()}
    wrong = {
        check for check, one in findings.items() if one.level > INFO and not check.startswith("settings.")
    }
    # The suite's own server runs with fsync off: found for real.
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
def test_a_setting_of_the_database_that_breaks_a_promise(broker, check, setting, expected):
    with altered(database(), f"SET {setting}", f"RESET {setting.split(' ')[0]}"):
        finding = found(check)
        assert finding.level == expected
        assert check.startswith("database.writable") or setting.split(" ")[0] in finding.msg


def test_a_pooler_that_drops_the_options_of_sessions(broker, settings):
    settings.POSTGRES_SESSION = dict.fromkeys(settings.POSTGRES_SESSION, "")
    with altered(
        database(),
        "SET default_transaction_isolation = 'repeatable read'",
        "RESET default_transaction_isolation",
    ):
        says = [one.msg for one in examine() if one.id == "database.session.worker"]
    assert any("repeatable read" in one for one in says)
    assert any("statement_timeout = 0" in one for one in says)


def test_a_table_that_is_not_vacuumed_and_one_without_its_fillfactor(broker):
    with altered("TABLE job_event", "SET (autovacuum_enabled = false)", "RESET (autovacuum_enabled)"):
        finding = found("database.autovacuum")
        assert (finding.level, "job_event" in finding.msg) == (ERROR, True)
    assert level("database.autovacuum") == INFO
    with altered("TABLE job", "RESET (fillfactor)", "SET (fillfactor = 70)"):
        assert level("database.fillfactor") == WARNING
    assert level("database.fillfactor") is None


def test_a_schema_that_is_older_or_newer_than_the_code(broker):
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


def test_a_fingerprint_key_that_is_gone(broker):
    IdempotencyRecord.objects.create(
        scope="1:test", key="k", fingerprint=b"x", fingerprint_version=1, fingerprint_kid="long-gone",
        method="POST", path="/v1/jobs", expires_at=timezone.now() + timedelta(days=1),
    )  # fmt: skip
    finding = found("work.fingerprint_keys")
    assert (finding.level, "long-gone" in finding.msg) == (WARNING, True)


def test_a_job_that_has_long_been_due(broker, tenant):
    make_due(queued_job(tenant).id)
    assert level("work.oldest_due") == ERROR


def test_a_lease_that_nobody_ended(broker, tenant):
    end_lease(claimed_job(tenant).id)
    finding = found("work.sweep")
    assert (finding.level, "manage.py sweep" in finding.hint) == (ERROR, True)


def test_a_job_that_waits_for_a_person(broker, tenant):
    in_state(tenant, State.UNKNOWN)
    assert level("work.unknown") == WARNING


@pytest.mark.parametrize(("seconds", "expected"), [(0, INFO), (5, WARNING), (-60, ERROR)])
def test_clocks_that_have_gone_apart(broker, monkeypatch, seconds, expected):
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
def test_a_broker_that_forgets_or_is_full(broker, check, setting, wrong, expected):
    right = broker.config_get(setting)[setting]
    broker.config_set(setting, wrong)
    try:
        assert level(check) == expected
    finally:
        broker.config_set(setting, right)
    assert level(check) == INFO


def test_a_broker_that_became_a_replica(valkey, broker):
    with valkey.demoted():
        assert level("broker.role") == ERROR


def test_a_queue_that_is_full_and_ticks_that_nobody_takes(broker, settings):
    settings.PUBLISH_QUEUE_CAP = 100
    broker.lpush("low", *range(100))
    assert level("broker.queues") == WARNING
    broker.delete("low")
    broker.lpush("maintenance", *range(60))
    finding = found("broker.queues")
    assert (finding.level, "-Q maintenance" in finding.hint) == (ERROR, True)


def test_a_password_that_the_broker_refuses_is_told_and_not_shown(broker, valkey, settings):
    settings.REDIS_URL = valkey.url.replace("valkey-of-a-test", "another-password")
    finding = found("broker.reachable")
    assert finding.level == ERROR
    assert "another-password" not in repr(finding)


def test_a_broker_that_says_nothing_costs_seconds(valkey, broker, settings):
    with broker_proxy(valkey.url) as proxy:
        settings.REDIS_URL = proxy.url
        proxy.fall_silent()
        began = timezone.now()
        assert level("broker.reachable") == ERROR
        assert timezone.now() - began < timedelta(seconds=20)


def test_servers_that_are_away_are_findings(settings, monkeypatch):
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    monkeypatch.setitem(connection.settings_dict, "PORT", str(free_port()))
    assert level("broker.reachable") == ERROR
    assert level("database.reachable") == ERROR


def test_settings_that_do_not_hold_together(broker, settings):
    settings.HEARTBEAT_SECONDS = 30.0
    settings.PAYMENT_PROVIDER_URL = settings.PROVISION_DATABASE_URL = ""
    assert level("settings.semel.E001") == ERROR
    assert level("settings.payment_provider") == WARNING
    assert level("settings.provision_database") == WARNING


def test_signs_of_life_that_cannot_be_left(broker, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ALIVE_DIR", str(tmp_path / "file" / "below"))
    assert level("storage.alive") == WARNING


def said(*options):
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("doctor", *options, stdout=out)
    return ended.value.code, out.getvalue()


def test_people_and_machines_are_told_the_same(broker):
    code, text = said()
    same, document = said("--json")
    told = json.loads(document)
    assert code == same == 2
    assert told["status"] == "error"
    for finding in told["findings"]:
        assert finding["check"] in text
        assert finding["do"] in text
    assert text.strip().splitlines()[-1].endswith("error")
