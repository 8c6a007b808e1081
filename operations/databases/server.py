"""The PostgreSQL server on which databases are provisioned. It never changes an object that Semel did not create.

The server's catalog records who created what. A role gets a mark (a comment with scope and job) in the transaction that
creates it, and is granted to Semel's own role; only roles that may create roles can write either. CREATE DATABASE cannot run
in a transaction, so a database is recognized by its owner, which is part of that statement.
"""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import UUID

import psycopg
from django.conf import settings
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from jobs.operations import EffectRefused, RetryableError
from operations import CALL_SLACK
from operations.databases.session import session

if TYPE_CHECKING:
    from jobs.operations import JobHandle
    from operations.databases.session import Session

# Longest name that a client may give: with our prefix it fits into the 63 bytes of an identifier.
NAME_MAX = 40
_SSL_MODES = ("require", "verify-ca", "verify-full")
_FIND = """
    SELECT role.oid IS NOT NULL, coalesce(shobj_description(role.oid, 'pg_authid'), ''),
           EXISTS (SELECT FROM pg_auth_members
                   WHERE roleid = role.oid AND member = (SELECT oid FROM pg_roles WHERE rolname = current_user)),
           role.rolcanlogin, database.oid IS NOT NULL, database.datdba = role.oid, database.datallowconn
    FROM (SELECT %s::name) AS given (name)
    LEFT JOIN pg_roles AS role ON role.rolname = given.name
    LEFT JOIN pg_database AS database ON database.datname = given.name
"""


def call_timeout() -> timedelta:
    """Return how long one call may take, with the slack around it."""
    return timedelta(seconds=settings.PROVISION_TIMEOUT_SECONDS) + CALL_SLACK


def server_for(job: JobHandle, name: str) -> PostgresServer:
    """Return the configured server for one name of the job's tenant."""
    timeout = timedelta(seconds=settings.PROVISION_TIMEOUT_SECONDS)
    return PostgresServer(settings.PROVISION_DATABASE_URL, scope=job.scope, name=name, timeout=timeout)


@dataclass(frozen=True)
class CatalogEntry:
    """What the server's catalog holds under one name."""

    has_role: bool
    comment: str
    is_granted_to_us: bool
    has_login: bool | None
    has_database: bool
    owns_database: bool | None
    is_open: bool | None

    @property
    def mark(self) -> str | None:
        """The role's mark; None if there is no role, or not one that Semel created."""
        return self.comment if self.has_role and self.is_granted_to_us else None


class PostgresServer:
    """One name on the server, for the jobs of one tenant. Role and database share a name that contains the scope's digest.

    Methods that change something can be repeated at any time: they do nothing if their work is done, and never touch what
    another job created. They raise EffectRefused (the change is impossible), EffectNotDone (this call did nothing) or
    RetryableError (the outcome is unknown). The constructor raises RetryableError if the URL is unusable: no effect has begun,
    and a corrected setting lets the job succeed.
    """

    def __init__(self, url: str, *, scope: str, name: str, timeout: timedelta) -> None:
        try:
            self._address: dict[str, Any] = conninfo_to_dict(url)
        except psycopg.ProgrammingError as error:
            raise _misconfigured() from error
        if not self._address.get("dbname"):
            raise _misconfigured()
        digest = hashlib.sha256(scope.encode()).hexdigest()
        self._scope_mark = f"Semel: scope {digest[:32]} job "
        self.database = self.role = f"s{digest[:10]}_{name}"
        self._url = url
        self._timeout = timeout

    def create_role(self, job_id: UUID, *, password: str, connection_limit: int) -> dict[str, Any]:
        """Create the role with its mark, in one transaction and without login. The password is sent as a SCRAM verifier."""
        with self._session() as connection, connection.transaction():
            entry = self._find(connection)
            if entry.mark == self._mark(job_id):
                return {"role": self.role}
            if entry.has_role or entry.has_database:
                raise _name_taken()
            # The server may log statements; a verifier in its log cannot be used to log in.
            verifier = connection.pgconn.encrypt_password(password.encode(), self.role.encode(), b"scram-sha-256")
            self._run(
                connection,
                "CREATE ROLE {name} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
                " CONNECTION LIMIT {limit} PASSWORD {verifier}",
                limit=sql.Literal(connection_limit),
                verifier=sql.Literal(verifier.decode()),
            )
            self._run(connection, "COMMENT ON ROLE {name} IS {mark}", mark=sql.Literal(self._mark(job_id)))
            # Without superuser rights, only a member of a role can make it a database's owner, or drop that database.
            self._run(connection, "GRANT {name} TO CURRENT_USER")
        return {"role": self.role}

    def create_database(self, job_id: UUID) -> dict[str, Any]:
        """Create the database, owned by its role and closed to connections."""
        with self._session() as connection:
            entry = self._find(connection)
            if entry.mark != self._mark(job_id):
                raise _removed()
            if not entry.has_database:
                self._run(connection, "CREATE DATABASE {name} OWNER {name} ALLOW_CONNECTIONS false")
            elif not entry.owns_database:
                raise _name_taken()
        return {"database": self.database}

    def open(self, job_id: UUID) -> dict[str, Any]:
        """Allow the role, and besides it only superusers, to connect to the database."""
        with self._session() as connection, connection.transaction():
            if not self._has_database_of(self._find(connection), job_id):
                raise _removed()
            self._run(connection, "REVOKE ALL ON DATABASE {name} FROM PUBLIC")
            self._run(connection, "GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {name} TO {name}")
            self._run(connection, "ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")
            self._run(connection, "ALTER ROLE {name} LOGIN")
        return {"database": self.database}

    def close(self, job_id: UUID) -> dict[str, Any]:
        """Prevent new sessions of the job's role and in its database."""
        with self._session() as connection, connection.transaction():
            entry = self._find(connection)
            if entry.mark == self._mark(job_id):
                self._run(connection, "ALTER ROLE {name} NOLOGIN")
            if self._has_database_of(entry, job_id):
                self._run(connection, "ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
        return {"database": self.database}

    def drop_database(self, job_id: UUID) -> dict[str, Any]:
        """Drop the job's database and end every session in it."""
        with self._session() as connection:
            if self._has_database_of(self._find(connection), job_id):
                self._run(connection, "DROP DATABASE {name} WITH (FORCE)")
        return {"database": self.database}

    def drop_role(self, job_id: UUID) -> dict[str, Any]:
        with self._session() as connection, connection.transaction():
            if self._find(connection).mark == self._mark(job_id):
                self._run(connection, "DROP ROLE {name}")
        return {"role": self.role}

    def creator(self) -> str | None:
        """Return the id of the scope's job that created the role, and with it the database; None if there is none."""
        mark = self.read_catalog().mark
        if mark is None or not mark.startswith(self._scope_mark):
            return None
        return mark.removeprefix(self._scope_mark)

    def has_role(self, job_id: UUID) -> bool:
        return self.read_catalog().mark == self._mark(job_id)

    def has_database(self, job_id: UUID) -> bool:
        return self._has_database_of(self.read_catalog(), job_id)

    def is_open(self, job_id: UUID) -> bool:
        entry = self.read_catalog()
        return self._has_database_of(entry, job_id) and bool(entry.is_open and entry.has_login)

    def read_catalog(self) -> CatalogEntry:
        """Return what the catalog holds under the name while no other session works on it."""
        with self._session() as connection:
            return self._find(connection)

    def dsn(self, password: str, *, address: str = "") -> str:
        """Return the role's DSN, at this address (host:port) or else at the one that Semel uses."""
        host = str(self._address.get("host") or "localhost")
        host = f"[{host}]" if ":" in host else quote(host, safe=",.-_")
        address = address or f"{host}:{self._address.get('port') or 5432}"
        mode = "?sslmode=require" if self._address.get("sslmode") in _SSL_MODES else ""
        return f"postgresql://{self.role}:{quote(password, safe='')}@{address}/{self.database}{mode}"

    def _session(self) -> AbstractContextManager[Session]:
        return session(self._url, self.database, self._timeout)

    def _find(self, connection: Session) -> CatalogEntry:
        row = connection.execute(_FIND, [self.database]).fetchone()
        if row is None:
            raise RetryableError("The database server's catalog returned an unexpected answer.", code="server_failed")
        return CatalogEntry(*row)

    def _has_database_of(self, entry: CatalogEntry, job_id: UUID) -> bool:
        return entry.mark == self._mark(job_id) and entry.has_database and bool(entry.owns_database)

    def _mark(self, job_id: UUID) -> str:
        return f"{self._scope_mark}{job_id}"

    def _run(self, connection: Session, statement: str, **parts: sql.Composable) -> None:
        connection.execute(sql.SQL(statement).format(name=sql.Identifier(self.database), **parts))


def _name_taken() -> EffectRefused:
    """The same text for every owner: a refusal must not reveal what other tenants have."""
    return EffectRefused("The name is taken.", code="name_taken")


def _removed() -> EffectRefused:
    return EffectRefused("What this job created was removed from the server by another user.", code="removed_meanwhile")


def _misconfigured() -> RetryableError:
    return RetryableError(
        "PROVISION_DATABASE_URL must be the URL of a database on the server where databases are provisioned.",
        code="server_not_configured",
    )
