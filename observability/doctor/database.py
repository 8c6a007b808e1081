"""Whether PostgreSQL is what the promises stand on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connection
from django.db.migrations.loader import MigrationLoader

from config.patches.postgresql.base import Connection
from foundation.processes import Process
from observability.doctor.clocks import compare_clock
from observability.doctor.finding import Finding, error, graded, ok, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

# Seconds for a connection, and for an answer: a doctor does not wait for the dead.
_CONNECT_SECONDS = 3
_ANSWER_SECONDS = 5.0
_OLDEST = 140_000
_HOT_TABLES = ("job", "idempotency_record", "job_attempt", "job_step", "job_event")
_JOB_FILLFACTOR = 70


def connect(process: Process) -> Connection:
    """A connection as that process's, but with short time-outs of the client's. Raises psycopg.Error in bounded time."""
    params = connection.get_connection_params()
    params |= {
        "connect_timeout": _CONNECT_SECONDS,
        "application_name": "semel-doctor",
        "options": settings.POSTGRES_SESSION[process],
        "autocommit": True,
    }
    opened = Connection.connect(**params)
    opened.answer_seconds = _ANSWER_SECONDS
    return opened


class Asked:
    """A connection that is asked plain questions."""

    def __init__(self, opened: Connection) -> None:
        self._connection = opened

    def value(self, question: str, *values: Any) -> Any:  # noqa: ANN401 - any column
        """The one value of the one row."""
        return self.rows(question, *values)[0][0]

    def rows(self, question: str, *values: Any) -> list[Any]:  # noqa: ANN401
        """All rows."""
        return self._connection.execute(question, values or None).fetchall()

    def setting(self, name: str) -> str:
        """What is in force in this session; empty where this version does not know it."""
        return str(self.value("SELECT current_setting(%s, true)", name) or "")


def look_at_database(asked: Asked) -> Iterator[Finding]:
    """Version, durability, sessions, vacuum, connections, clock, schema."""
    yield _version(asked)
    yield from _role(asked)
    yield from _durability(asked)
    yield from _vacuum(asked)
    yield _room(asked)
    yield compare_clock(
        "database.clock", lambda: float(asked.value("SELECT extract(epoch FROM clock_timestamp())"))
    )
    yield from _migrations(asked)


def look_at_sessions() -> Iterator[Finding]:
    """What is really in force in the sessions of each kind of process, whatever roles, databases and poolers say."""
    for process in (Process.API, Process.STREAMS, Process.WORKER):
        with connect(process) as opened:
            yield from _session(process, Asked(opened))


def _version(asked: Asked) -> Finding:
    number, name = int(asked.setting("server_version_num")), asked.setting("server_version")
    if number < _OLDEST:
        return error(
            "database.version",
            f"PostgreSQL {name}.",
            means="Semel is tested from version 14 on.",
            do="Upgrade PostgreSQL.",
        )
    return ok("database.version", f"PostgreSQL {name}.")


def _role(asked: Asked) -> Iterator[Finding]:
    if asked.value("SELECT pg_is_in_recovery()") or asked.setting("default_transaction_read_only") == "on":
        yield error(
            "database.writable",
            "The database takes no writes: a replica, or default_transaction_read_only.",
            means="Every POST is answered 503; replicas must not serve look-ups either.",
            do="Point DATABASE_URL at the primary; reset default_transaction_read_only of role and database.",
        )
    else:
        yield ok("database.writable", "The database is a primary and takes writes.")


def _durability(asked: Asked) -> Iterator[Finding]:
    forgetful = [name for name in ("fsync", "full_page_writes") if asked.setting(name) == "off"]
    if asked.setting("synchronous_commit") == "off":
        forgetful.append("synchronous_commit")
    if forgetful:
        yield error(
            "database.durability",
            f"{' and '.join(forgetful)} off.",
            means="A crash can forget a commit: a 202 would stand for no job, an effect for no record, to be repeated.",
            do="Turn on: ALTER SYSTEM (fsync, full_page_writes), ALTER ROLE or DATABASE … RESET synchronous_commit.",
        )
    elif asked.setting("synchronous_commit") == "local" and asked.setting("synchronous_standby_names"):
        yield warning(
            "database.durability",
            "synchronous_commit is local, although synchronous standbys are named.",
            means="A failover can forget what was answered 202.",
            do="RESET synchronous_commit of role and database, if failovers must not forget.",
        )
    else:
        yield ok(
            "database.durability",
            f"A commit is on disk (synchronous_commit = {asked.setting('synchronous_commit')}).",
        )


def _vacuum(asked: Asked) -> Iterator[Finding]:
    off = [name for name in ("autovacuum", "track_counts") if asked.setting(name) == "off"]
    options = {
        name: list(reloptions or [])
        for name, reloptions in asked.rows(
            "SELECT relname, reloptions FROM pg_class WHERE oid = ANY(ARRAY(SELECT to_regclass(name) "
            "FROM unnest(%s::text[]) AS name))",
            list(_HOT_TABLES),
        )
    }
    off += [
        f"{name}.autovacuum_enabled" for name, told in options.items() if "autovacuum_enabled=false" in told
    ]
    if off:
        yield error(
            "database.autovacuum",
            f"Off: {', '.join(off)}.",
            means="Dead rows are never reclaimed: tables and indexes grow without bound, and claims get slow.",
            do="ALTER SYSTEM SET autovacuum = on; ALTER TABLE … RESET (autovacuum_enabled); then VACUUM ANALYZE.",
        )
    else:
        yield ok("database.autovacuum", "Autovacuum is on.")
    if "job" in options and f"fillfactor={_JOB_FILLFACTOR}" not in options["job"]:
        yield warning(
            "database.fillfactor",
            "The table job has lost its fillfactor of 70.",
            means="Renewals find no room on their page and are no HOT updates: every index grows with each heartbeat.",
            do="ALTER TABLE job SET (fillfactor = 70);",
        )


def _room(asked: Asked) -> Finding:
    total = int(asked.setting("max_connections")) - int(asked.setting("superuser_reserved_connections"))
    used = int(asked.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"))
    return graded(
        "database.connections",
        used / max(total, 1),
        f"{used} of {total} connections are in use.",
        warn_at=0.8,
        fail_at=0.95,
        means="The next process to start, or a burst of requests, finds no connection: 503.",
        do="Raise max_connections, start fewer processes or threads (API_THREADS), or put PgBouncer before it.",
    )


def _migrations(asked: Asked) -> Iterator[Finding]:
    known = set(MigrationLoader(None).disk_migrations)
    has_table = asked.value("SELECT to_regclass('django_migrations') IS NOT NULL")
    applied = set(asked.rows("SELECT app, name FROM django_migrations")) if has_table else set()
    missing = sorted(f"{app}.{name}" for app, name in known - applied)
    ours = {app for app, _name in known}
    newer = sorted(f"{app}.{name}" for app, name in applied - known if app in ours)
    if missing:
        yield error(
            "database.migrations",
            f"Not applied: {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''} ({len(missing)}).",  # noqa: PLR2004
            means="The schema is older than this release; /readyz answers 503.",
            do="python manage.py migrate",
        )
    elif newer:
        yield warning(
            "database.migrations",
            f"Applied, and unknown to this release: {', '.join(newer[:5])}.",
            means="The schema is newer than this code: right in the middle of a deployment, wrong after it.",
            do="Finish the deployment, or go back by python manage.py migrate of the newer release.",
        )
    else:
        yield ok("database.migrations", f"All {len(known)} migrations are applied.")


def _session(process: Process, asked: Asked) -> Iterator[Finding]:
    check = f"database.session.{process}"
    isolation = asked.setting("transaction_isolation")
    if isolation != "read committed":
        yield error(
            check,
            f"Transactions are {isolation}.",
            means="Racing duplicates fail with 40001 instead of being replayed.",
            do="The pooler must pass on `options`, or: ALTER ROLE … SET default_transaction_isolation = 'read committed'.",
        )
    wanted = settings.POSTGRES_TIMEOUTS_MS[process]
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    found = dict(
        asked.rows("SELECT name, setting::bigint FROM pg_settings WHERE name = ANY(%s)", list(names))
    )
    wrong = [
        f"{name} = {found[name]} ms" for name, ms in zip(names, wanted, strict=True) if found[name] != ms
    ]
    if wrong:
        yield error(
            check,
            f"In force: {', '.join(wrong)}.",
            means="Not what settings.py asks for: a stuck statement can hold a request or a job for ever.",
            do="The pooler must pass on `options` (ignore_startup_parameters drops them): ALTER ROLE … SET them instead.",
        )
    harsh = [
        name
        for name in ("idle_session_timeout", "transaction_timeout")
        if asked.setting(name) not in ("", "0", "0ms")
    ]
    if harsh:
        yield warning(
            check,
            f"{' and '.join(harsh)} set.",
            means="The server ends kept connections or long transactions of ours: each costs a request or an attempt.",
            do=f"ALTER ROLE … SET {harsh[0]} = 0;",
        )
    if not (isolation != "read committed" or wrong or harsh):
        yield ok(check, "Isolation and time-outs are in force.")
