"""Check that PostgreSQL is configured as Semel's guarantees require. Every statement has a short time-out."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage
from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.migrations.recorder import MigrationRecorder

from foundation.processes import Process
from observability.doctor import work
from observability.doctor.findings import compare_clock, judge
from observability.health import missing_migrations, release_migrations

_CONNECT_SECONDS = 3
_ANSWER_SECONDS = 5.0
_OLDEST = 140_000
_HOT_TABLES = ["job", "idempotency_record", "job_attempt", "job_step", "job_event"]
_FILLFACTOR = "fillfactor=70"
_STORAGE_OPTIONS = """
    SELECT relname, coalesce(reloptions, '{}') FROM pg_class
    WHERE oid = ANY(ARRAY(SELECT to_regclass(name) FROM unnest(%s::text[]) AS name))"""


def findings() -> Iterator[CheckMessage]:
    """Examine the database, and the jobs and keys in it. Raise Django's Error if it does not answer."""
    with _session_of(Process.API):
        in_force = _settings_in_force()
        yield judge("database.reachable", "The database answers.")
        yield from _server(in_force)
        tables = dict(_fetch(_STORAGE_OPTIONS, _HOT_TABLES))
        yield from _vacuum(in_force, tables)
        yield compare_clock(
            "database.clock", lambda: float(_fetch("SELECT extract(epoch FROM clock_timestamp())")[0][0])
        )
        yield _migrations()
        if tables.keys() >= {"job", "idempotency_record"}:
            yield from work.findings()
    for process in (Process.API, Process.STREAMS, Process.WORKER):
        with _session_of(process):
            yield from _session(process, _settings_in_force())


@contextmanager
def _session_of(process: Process) -> Iterator[None]:
    """Replace the default connection by one with the session options of this process, and with short time-outs."""
    usual = connections[DEFAULT_DB_ALIAS]
    short = usual.copy()
    short.settings_dict["OPTIONS"] |= {
        "connect_timeout": _CONNECT_SECONDS,
        "answer_seconds": _ANSWER_SECONDS,
        "application_name": "semel-doctor",
        "options": settings.POSTGRES_SESSION[process],
    }
    connections[DEFAULT_DB_ALIAS] = short
    try:
        yield
    finally:
        connections[DEFAULT_DB_ALIAS] = usual
        short.close()


def _fetch(statement: str, *values: Any) -> list[Any]:  # noqa: ANN401 - statement parameters
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        rows: list[Any] = cursor.fetchall()
        return rows


def _settings_in_force() -> dict[str, str]:
    """Return this session's settings, whatever role, database and pooler changed. Durations are in milliseconds."""
    return dict(_fetch("SELECT name, setting FROM pg_settings"))


def _server(in_force: Mapping[str, str]) -> Iterator[CheckMessage]:
    is_old = int(in_force["server_version_num"]) < _OLDEST
    yield judge("database.version", f"PostgreSQL {in_force['server_version']}.", error=is_old)
    roles = {name: in_force.get(name) for name in ("in_hot_standby", "default_transaction_read_only")}
    yield judge("database.writable", f"{_listed(roles)}.", error="on" in roles.values())
    commits = {name: in_force[name] for name in ("fsync", "full_page_writes", "synchronous_commit")}
    standbys = in_force["synchronous_standby_names"]
    yield judge(
        "database.durability",
        f"{_listed(commits)}; synchronous standbys: {standbys or 'none'}.",
        error="off" in commits.values(),
        warning=bool(standbys) and commits["synchronous_commit"] == "local",
    )
    total = int(in_force["max_connections"]) - int(in_force["superuser_reserved_connections"])
    ((used,),) = _fetch("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
    found = f"{used} of {total} connections are in use."
    yield judge("database.connections", found, error=used >= 0.95 * total, warning=used >= 0.8 * total)


def _vacuum(in_force: Mapping[str, str], tables: Mapping[str, list[str]]) -> Iterator[CheckMessage]:
    off = [name for name in ("autovacuum", "track_counts") if in_force[name] == "off"]
    off += [f"{table}.autovacuum_enabled" for table in tables if "autovacuum_enabled=false" in tables[table]]
    found = f"Off: {', '.join(off)}." if off else "Autovacuum is on."
    yield judge("database.autovacuum", found, error=bool(off))
    if _FILLFACTOR not in tables.get("job", [_FILLFACTOR]):
        yield judge("database.fillfactor", "The table job has lost its fillfactor of 70.", warning=True)


def _migrations() -> CheckMessage:
    check, known, missing = "database.migrations", release_migrations(), missing_migrations()
    if missing:
        found = f"{len(missing)} not applied: {', '.join(missing[:5])}{' …' if missing[5:] else ''}."
        return judge(check, found, error=True, advice=f"{check}.missing")
    apps = {app for app, _ in known}
    applied = MigrationRecorder(connection).applied_migrations()
    newer = [f"{app}.{name}" for app, name in sorted(applied.keys() - known) if app in apps]
    found = f"All {len(known)} are applied; unknown to this release: {', '.join(newer[:5]) or 'none'}."
    return judge(check, found, warning=bool(newer), advice=f"{check}.newer")


def _session(process: Process, in_force: Mapping[str, str]) -> Iterator[CheckMessage]:
    check = f"database.session.{process}"
    timeouts = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    expected = dict(zip(timeouts, map(str, settings.POSTGRES_TIMEOUTS_MS[process]), strict=True))
    expected["transaction_isolation"] = "read committed"
    wrong = {name: in_force[name] for name in expected if in_force[name] != expected[name]}
    found = f"Not as in the settings: {_listed(wrong)}." if wrong else "Isolation and time-outs are in force."
    yield judge(check, found, error=bool(wrong), advice="database.session.settings")
    # Absent from PostgreSQL 16 and earlier: transaction_timeout.
    harmful = {name: in_force.get(name, "0") for name in ("idle_session_timeout", "transaction_timeout")}
    if any(value != "0" for value in harmful.values()):
        found = f"{_listed(harmful)} (milliseconds)."
        yield judge(check, found, warning=True, advice="database.session.harmful")


def _listed(values: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items())
