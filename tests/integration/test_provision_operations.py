"""Databases are provisioned and dropped on a real server, without superuser rights: once, or not at all."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import timedelta
from functools import partial
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from django.db import connections
from psycopg import sql

from devstack.ports import free_port
from jobs.models import Job, JobAttempt, JobEvent, JobStep
from jobs.operations import EffectRefused, RetryableError
from jobs.payloads import payload_json
from jobs.registry import current_operation
from jobs.services import cancel_job, erase_payload, redrive_job
from jobs.states import State
from jobs.submission import Submission, submit_job
from operations.databases.server import PostgresServer
from operations.databases.session import session
from tests.support.downstreams import run
from tests.support.factories import TenantFactory
from tests.support.target_server import target_server
from tests.support.threads import at_once
from workers.testing import Crash, every_crash, run_operation, run_to_end

pytestmark = pytest.mark.django_db

PROVISION, DROP = "resources.provision_database", "resources.drop_database"
SECONDS = timedelta(seconds=15)


@pytest.fixture(scope="module")
def target(django_db_setup, django_db_blocker):
    with target_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _target_is_ours(target, settings):
    settings.PROVISION_DATABASE_URL = target.url


@pytest.fixture
def name():
    return new_name()


@pytest.fixture
def provision(tenant):
    def provision(name, tenant=tenant, **options):
        return run_operation(PROVISION, {"name": name}, tenant_id=tenant.id, **options)

    return provision


@pytest.fixture
def drop(tenant):
    def drop(name, tenant=tenant, **options):
        return run_operation(DROP, {"name": name}, tenant_id=tenant.id, **options)

    return drop


def new_name():
    return f"orders_{uuid4().hex[:10]}"


def connect(dsn, **options):
    return psycopg.connect(dsn, autocommit=True, connect_timeout=5, **options)


def steps(finished):
    return {step.name: str(step.state) for step in JobStep.objects.filter(job_id=finished.job.id)}


def cause(finished):
    return finished.job.state, finished.error["code"], finished.error["cause"]


def names_of(provisioned):
    return [provisioned.result["role"]], [provisioned.result["database"]]


def server_of(target, tenant, name):
    return PostgresServer(target.url, scope=f"{tenant.id}:test", name=name, timeout=SECONDS)


def submitted(tenant, name, operation=PROVISION):
    submission = Submission(operation=current_operation(operation), params={"name": name})
    return submit_job(tenant_id=tenant.id, mode="test", submission=submission)


NOTHING = ([], [])


# --- Provisioned ------------------------------------------------------------------------------------------------------


def test_a_provisioned_database_can_be_used_by_its_role(provision, target, name):
    provisioned = provision(name)
    assert set(provisioned.result) == {"database", "role", "dsn"}
    assert target.made(name) == names_of(provisioned)
    assert steps(provisioned) == {"password": "done", "role": "done", "database": "done", "open": "done"}
    with connect(provisioned.result["dsn"]) as session:
        session.execute("CREATE TABLE kept (id int)")
        session.execute("INSERT INTO kept VALUES (1)")
        [row] = session.execute("SELECT current_database(), current_user, id FROM kept").fetchall()
    assert row == (provisioned.result["database"], provisioned.result["role"], 1)


def test_the_role_has_no_other_rights(provision, target, name, settings):
    settings.PROVISION_CONNECTION_LIMIT = 2
    dsn = provision(name).result["dsn"]
    [role] = target.made(name)[0]
    rights = "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls, rolconnlimit FROM pg_roles"
    assert target.ask(f"{rights} WHERE rolname = %s", role) == [(False, False, False, False, False, 2)]
    with connect(dsn), connect(dsn) as session:
        with pytest.raises(psycopg.OperationalError, match="too many connections"):
            connect(dsn)
        for statement in (
            "CREATE DATABASE mine",
            "CREATE ROLE mine",
            "COMMENT ON ROLE CURRENT_USER IS 'Semel: mine'",
            "ALTER ROLE CURRENT_USER CONNECTION LIMIT 100",
            "ALTER ROLE CURRENT_USER CREATEROLE",
        ):
            with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.SyntaxError)):
                session.execute(statement)


def test_no_other_role_can_connect(provision, target, name):
    mine, other = provision(name).result, provision(new_name(), TenantFactory()).result
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        connect(other["dsn"].replace(other["database"] + "_", "x").rsplit("/", 1)[0] + f"/{mine['database']}")
    connect(other["dsn"]).close()


def test_each_tenant_and_mode_has_its_own_database_of_a_name(provision, drop, target, name):
    tenant = TenantFactory()
    results = [provision(name).result, provision(name, tenant).result, provision(name, tenant, mode="live").result]
    assert len({result["database"] for result in results}) == 3
    assert drop(name, tenant).result["database"] == results[1]["database"]
    for left in (results[0], results[2]):
        connect(left["dsn"]).close()


def test_clients_may_have_another_address(provision, name, settings, target):
    settings.PROVISION_PUBLIC_ADDRESS = "db.example.com:6432"
    assert urlsplit(provision(name).result["dsn"]).netloc.endswith("@db.example.com:6432")
    secure = PostgresServer(f"{target.url}?sslmode=verify-full", scope="1:test", name="a", timeout=SECONDS)
    assert secure.dsn("p").endswith("?sslmode=require")


# --- Crashes ----------------------------------------------------------------------------------------------------------


def test_there_is_one_role_and_one_database_wherever_the_worker_dies(provision, target):
    crashes = list(every_crash(lambda: provision(new_name())))
    assert len(crashes) >= 13
    for crash in crashes:
        name = new_name()
        provisioned = provision(name, crash=crash)
        assert provisioned.has_crashed, crash
        assert provisioned.job.state == State.SUCCEEDED, crash
        assert target.made(name) == names_of(provisioned), crash
        connect(provisioned.result["dsn"]).close()


def test_a_drop_removes_everything_wherever_the_worker_dies(provision, drop, target):
    def dropped(name, **options):
        provision(name)
        return drop(name, **options)

    crashes = list(every_crash(lambda: dropped(new_name())))
    assert len(crashes) >= 9
    for crash in crashes:
        name = new_name()
        assert dropped(name, crash=crash).job.state == State.SUCCEEDED, crash
        assert target.made(name) == NOTHING, crash


@pytest.fixture
def at_statement(monkeypatch):
    """Call `meddle` instead of sending the nth statement that changes something; return the statements sent."""
    send = PostgresServer._run

    def interpose(number, meddle):
        sent = []

        def sending(server, connection, statement, **parts):
            sent.append(statement.split(" {")[0])
            if len(sent) != number:
                return send(server, connection, statement, **parts)
            return meddle(connection, partial(send, server, connection, statement, **parts))

        monkeypatch.setattr(PostgresServer, "_run", sending)
        return sent

    return interpose


STATEMENTS = [
    *("CREATE ROLE", "COMMENT ON ROLE", "GRANT", "CREATE DATABASE", "REVOKE ALL ON DATABASE"),
    *("GRANT CONNECT, CREATE, TEMPORARY ON DATABASE", "ALTER DATABASE", "ALTER ROLE"),
]


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_a_session_that_is_cut_at_any_statement_costs_only_another_attempt(provision, target, at_statement, is_done):
    def cut(connection, send):
        if is_done:
            send()
        assert target.ask("SELECT pg_terminate_backend(%s, 10000)", connection.info.backend_pid) == [(True,)]
        connection.execute("SELECT 1")

    for number, statement in enumerate(STATEMENTS, 1):
        name = new_name()
        sent = at_statement(number, cut)
        provisioned = provision(name)
        assert sent[:number] == STATEMENTS[:number]
        assert (provisioned.job.state, provisioned.job.attempt) == (State.SUCCEEDED, 2), statement
        assert target.made(name) == names_of(provisioned), statement
        connect(provisioned.result["dsn"]).close()


def test_a_refusal_of_any_statement_leaves_nothing(provision, target, at_statement):
    def refuse(_connection, _send):
        raise EffectRefused("not here", code="not_here")

    for number, statement in enumerate(STATEMENTS, 1):
        name = new_name()
        at_statement(number, refuse)
        assert cause(provision(name)) == (State.FAILED, "operation-failed", "not_here"), statement
        assert target.made(name) == NOTHING, statement


# --- Failures leave nothing -------------------------------------------------------------------------------------------


@pytest.fixture
def spoiled(monkeypatch, target):
    """Run a statement on the server just before this call."""

    def spoil(method, statement):
        call = getattr(PostgresServer, method)

        def spoilt(server, *args, **options):
            # It may have run before an earlier attempt.
            with suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.InvalidCatalogName):
                target.do(statement, sql.Identifier(server.database))
            return call(server, *args, **options)

        monkeypatch.setattr(PostgresServer, method, spoilt)

    yield spoil
    monkeypatch.undo()
    for [database] in target.ask("SELECT datname FROM pg_database WHERE datname LIKE %s", "s%\\_spoiled\\_%"):
        target.do("DROP DATABASE {} WITH (FORCE)", sql.Identifier(database))


SPOILS = {
    "create_database": ("CREATE DATABASE {}", "name_taken", {"role"}),
    "open": ("DROP DATABASE {}", "removed_meanwhile", {"role", "database"}),
}


@pytest.mark.parametrize("method", SPOILS)
def test_a_permanent_failure_leaves_nothing_wherever_its_worker_dies(provision, target, spoiled, method):
    statement, code, undone = SPOILS[method]

    def fail(**options):
        name = f"spoiled_{uuid4().hex[:10]}"
        failed = provision(name, **options)
        assert cause(failed)[:2] == (State.FAILED, "operation-failed"), options
        # The next attempt reads only that the effect was refused.
        assert cause(failed)[2] in ({code, "refused"} if options else {code}), options
        assert {name for name, state in steps(failed).items() if state == "compensated"} == undone
        assert target.made(name)[0] == [], options
        return failed

    spoiled(method, statement)
    crashes = list(every_crash(fail))
    assert len(crashes) >= 10
    for crash in crashes:
        assert fail(crash=crash).has_crashed


def test_objects_that_existed_under_the_name_are_not_touched(provision, drop, target, tenant, name):
    server = server_of(target, tenant, name)
    for kind in ("ROLE", "DATABASE"):
        thing = sql.SQL(kind)
        target.do("CREATE {} {}", thing, sql.Identifier(server.database))
        target.do("COMMENT ON {} {} IS 'by hand'", thing, sql.Identifier(server.database))
        refused = provision(name)
        assert cause(refused) == (State.FAILED, "operation-failed", "name_taken")
        assert steps(refused)["role"] == "refused"
        assert cause(drop(name)) == (State.FAILED, "operation-failed", "no_such_database")
        target.do("DROP {} {}", thing, sql.Identifier(server.database))


def test_a_mark_without_the_grant_does_not_make_a_role_ours(target, tenant, provision, drop, name):
    """For example on a server that another installation uses, with equal tenant ids."""
    server = server_of(target, tenant, name)
    target.do("CREATE ROLE {}", sql.Identifier(server.role))
    mark = f"{server._scope_mark}{uuid4()}"
    target.do("COMMENT ON ROLE {} IS {}", sql.Identifier(server.role), sql.Literal(mark))
    assert cause(provision(name))[2] == "name_taken"
    assert cause(drop(name))[2] == "no_such_database"
    target.remove(server.role)


def test_a_second_job_is_refused_and_the_first_database_stays(provision, target, name):
    first, second = provision(name), provision(name)
    assert cause(second) == (State.FAILED, "operation-failed", "name_taken")
    assert target.made(name) == names_of(first)
    connect(first.result["dsn"]).close()


@pytest.mark.django_db(transaction=True)
def test_of_two_concurrent_jobs_one_gets_the_name(tenant, target, name):
    jobs = [submitted(tenant, name) for _ in range(2)]
    ends = at_once(*(partial(run_in_thread, job.id) for job in jobs))
    assert sorted(ends) == [State.FAILED, State.SUCCEEDED]
    assert [len(names) for names in target.made(name)] == [1, 1]


def run_in_thread(job_id):
    try:
        job = run(job_id)
        while not State(job.state).is_settled:
            job = run(job_id)
        return job.state
    finally:
        connections.close_all()


def test_a_canceled_job_leaves_nothing(tenant, target, monkeypatch, name):
    """The worker also dies, so that the next attempt finds the cancel request at its first step."""
    create = PostgresServer.create_database

    def create_and_cancel(server, job_id):
        made = create(server, job_id)
        cancel_job(tenant_id=tenant.id, mode="test", job_id=job_id)
        return made

    monkeypatch.setattr(PostgresServer, "create_database", create_and_cancel)
    canceled = run_to_end(submitted(tenant, name).id, crash=Crash("after_record", 3))
    assert canceled.has_crashed
    assert canceled.job.state == State.CANCELED
    assert steps(canceled)["database"] == "compensated"
    assert target.made(name) == NOTHING


def test_a_redriven_job_creates_again_what_was_undone(provision, target, tenant):
    name = f"redriven_{uuid4().hex[:10]}"
    server = server_of(target, tenant, name)
    target.do("CREATE DATABASE {}", sql.Identifier(server.database))
    failed = provision(name)
    assert cause(failed)[2] == "name_taken"
    target.do("DROP DATABASE {}", sql.Identifier(server.database))
    redrive_job(tenant_id=tenant.id, mode="test", job_id=failed.job.id)
    connect(run_to_end(failed.job.id).result["dsn"]).close()


# --- Dropped ----------------------------------------------------------------------------------------------------------


def test_a_drop_ends_open_connections_and_frees_the_name(provision, drop, target, name):
    provisioned = provision(name)
    with connect(provisioned.result["dsn"]) as session:
        session.execute("CREATE TABLE kept (id int)")
        dropped = drop(name)
        assert dropped.result == {member: provisioned.result[member] for member in ("database", "role")}
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    assert target.made(name) == NOTHING
    with pytest.raises(psycopg.OperationalError):
        connect(provisioned.result["dsn"])
    connect(provision(name).result["dsn"]).close()


def test_another_tenants_database_looks_like_a_missing_one(provision, drop, target, name):
    provisioned = provision(name, TenantFactory())
    others, missing = drop(name), drop(new_name())
    assert cause(others) == cause(missing) == (State.FAILED, "operation-failed", "no_such_database")
    assert others.error["detail"] == missing.error["detail"]
    assert target.made(name) == names_of(provisioned)


def test_a_late_drop_does_not_touch_what_a_later_job_created(provision, drop, target, tenant, name):
    first = provision(name)
    drop(name)
    second = provision(name)
    server = server_of(target, tenant, name)
    server.drop_database(first.job.id)
    server.drop_role(first.job.id)
    server.close(first.job.id)
    connect(second.result["dsn"]).close()


# --- The password -----------------------------------------------------------------------------------------------------


def test_the_password_is_only_in_the_result_and_its_step_until_both_are_erased(target, tenant, api, caplog):
    caplog.set_level("DEBUG")
    job = run_operation(PROVISION, {"name": new_name()}, tenant_id=tenant.id).job
    answer = api.get(f"/v1/jobs/{job.id}").json()
    assert answer == api.get(f"/v1/jobs/{job.id}").json(), "a lost answer can be read again"
    password = urlsplit(answer["result"]["dsn"]).password
    assert len(password) >= 43

    def holders():
        rows = [
            *Job.objects.filter(pk=job.id).values_list("result"),
            *JobStep.objects.filter(job_id=job.id).values_list("name", "result", "reference"),
            *JobEvent.objects.filter(job_id=job.id).values_list("type", "data"),
            *JobAttempt.objects.filter(job_id=job.id).values_list("error"),
        ]
        return sum(password in str([as_text(value) for value in row]) for row in rows)

    assert holders() == 2
    assert password not in caplog.text
    assert password not in str(api.get(f"/v1/jobs/{job.id}/events").json())
    [[stored]] = target.ask("SELECT rolpassword FROM pg_authid WHERE rolname = %s", answer["result"]["role"])
    assert stored.startswith("SCRAM-SHA-256$")
    erase_payload(tenant_id=tenant.id, mode="test", job_id=job.id)
    assert holders() == 0


def as_text(value):
    return payload_json(value).decode() if isinstance(value, bytes | memoryview) else str(value)


# --- Names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hostile",
    ["", "A", "1a", "_a", "a-b", "a b", "a.b", 'a"', "a'; --", "a\n", "é", "postgres\0", "a" * 41, 1, None, ["a"]],
    ids=repr,
)
def test_an_invalid_name_is_refused_before_a_job_is_created(provision, drop, hostile):
    for operation in (provision, drop):
        with pytest.raises(ValueError, match="name"):
            operation(hostile)


@pytest.mark.parametrize("hostile", ['x"; DROP ROLE y; --', "x' OR '1'='1", "%s {name}", "Ünï cödé"])
def test_a_name_with_sql_in_it_is_quoted(target, hostile):
    server = PostgresServer(target.url, scope=str(uuid4()), name=hostile, timeout=SECONDS)
    job_id = uuid4()
    server.create_role(job_id, password="p", connection_limit=1)
    server.create_database(job_id)
    server.open(job_id)
    assert server.is_open(job_id)
    assert server.creator() == str(job_id)
    server.drop_database(job_id)
    server.drop_role(job_id)
    assert not server.read_catalog().has_role


# --- A failing server -------------------------------------------------------------------------------------------------


def attempted(tenant, name):
    """Return the job after one attempt, and the attempt's error."""
    job = run(submitted(tenant, name).id)
    attempt = JobAttempt.objects.get(job_id=job.id)
    return job, as_text(attempt.error)


@pytest.mark.parametrize("url", ["", "http://example.com", "postgres://host", "no address"])
def test_without_an_address_no_effect_starts_and_a_corrected_setting_helps(tenant, settings, target, name, url):
    settings.PROVISION_DATABASE_URL = url
    job, error = attempted(tenant, name)
    assert (job.state, job.open_effects) == (State.QUEUED, 0)
    assert "server_not_configured" in error
    settings.PROVISION_DATABASE_URL = target.url
    assert run_to_end(job.id).job.state == State.SUCCEEDED


def test_an_unreachable_server_means_not_done(tenant, settings, name):
    settings.PROVISION_DATABASE_URL = f"postgres://tenant:hidden@127.0.0.1:{free_port()}/postgres"
    job, error = attempted(tenant, name)
    assert (job.state, job.open_effects) == (State.QUEUED, 0)
    assert "server_unreachable" in error
    assert "hidden" not in error
    assert "127.0.0.1" not in error


def test_a_busy_template_is_retried(tenant, target, name):
    with target.session("template1"):
        job, error = attempted(tenant, name)
        assert (job.state, job.open_effects, job.done_effects) == (State.QUEUED, 0, 1)
        assert "server_busy" in error
    assert run_to_end(job.id).job.state == State.SUCCEEDED


def test_a_missing_right_of_our_role_is_reported(tenant, target, name):
    target.do("ALTER ROLE {} NOCREATEDB", sql.Identifier(target.role))
    try:
        job, error = attempted(tenant, name)
        assert (job.state, job.done_effects) == (State.QUEUED, 1)
        assert "server_forbids" in error
    finally:
        target.do("ALTER ROLE {} CREATEDB", sql.Identifier(target.role))
    assert run_to_end(job.id).job.state == State.SUCCEEDED


def test_a_name_that_another_session_works_on_is_retried(tenant, target, settings, name):
    settings.PROVISION_TIMEOUT_SECONDS = 1.0
    with session(target.url, server_of(target, tenant, name).database, SECONDS):
        job, error = attempted(tenant, name)
        assert (job.state, job.open_effects) == (State.QUEUED, 0)
        assert "name_busy" in error
    assert run_to_end(job.id).job.state == State.SUCCEEDED


def test_a_server_that_does_not_answer_is_abandoned_in_time_with_an_unknown_outcome(target):
    def ask():
        with session(target.url, "silent", timedelta(seconds=0.5)) as silent:
            silent.execute("SET statement_timeout = 0")
            silent.execute("SELECT pg_sleep(20)")

    began = time.monotonic()
    with pytest.raises(RetryableError) as given_up:
        ask()
    assert (type(given_up.value), given_up.value.code) == (RetryableError, "server_silent")
    assert time.monotonic() - began < 5
