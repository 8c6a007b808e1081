"""The PostgreSQL server on which databases are provisioned. What matters most is to touch nothing that Semel did not make.

Whose something is stands in the catalogue. A role gets its mark, a comment with scope and job, in the transaction that
creates it, and is granted to the role that Semel works as; only who may create roles can write either. A database cannot be
created in a transaction: its owner, who stands in the CREATE, is its mark.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from jobs.operations import EffectRefused, RetryableError
from operations.databases.session import session

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from datetime import timedelta
    from uuid import UUID

    from operations.databases.session import Session

# Longest name that a client may give, so that ours fits into the 63 bytes of an identifier.
NAME_MAX = 40
_SSL_MODES = ("require", "verify-ca", "verify-full")
_FIND = """
    SELECT role.oid IS NOT NULL, coalesce(shobj_description(role.oid, 'pg_authid'), ''),
           EXISTS (SELECT FROM pg_auth_members
                   WHERE roleid = role.oid AND member = (SELECT oid FROM pg_roles WHERE rolname = current_user)),
           role.rolcanlogin, database.oid IS NOT NULL, database.datdba = role.oid, database.datallowconn
    FROM (SELECT %s::name) AS wanted (name)
    LEFT JOIN pg_roles AS role ON role.rolname = wanted.name
    LEFT JOIN pg_database AS database ON database.datname = wanted.name
"""


@dataclass(frozen=True)
class Found:
    """What the catalogue has under a name."""

    has_role: bool
    comment: str
    is_granted_to_us: bool
    has_login: bool | None
    has_database: bool
    owns_database: bool | None
    is_open: bool | None

    @property
    def mark(self) -> str | None:
        """The role's mark; None where there is no role, or none that we have made."""
        return self.comment if self.has_role and self.is_granted_to_us else None


class PostgresServer:
    """The server as the tenant's jobs on one name see it. Role and database have one name, in which the scope's digest stands.

    What changes something may be repeated for ever: it does nothing where its work is done, and nothing to what another job
    has made. It raises EffectRefused (never), EffectNotDone (this call did nothing) or RetryableError (anything else).
    RetryableError, too, where the address cannot be used: before any effect begins, and a repair helps.
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
        self._identifier = sql.Identifier(self.database)
        self._url = url
        self._timeout = timeout

    def create_role(self, job_id: UUID, *, password: str, connection_limit: int) -> dict[str, Any]:
        """The job's role is there and marked, in one transaction; it cannot log in yet. Its password goes there as a verifier."""
        with self._session() as connection, connection.transaction():
            found = self._find(connection)
            if found.mark == self._mark(job_id):
                return {"role": self.role}
            if found.has_role or found.has_database:
                raise _taken()
            # The server's log may hold statements: what stands in this one lets nobody in.
            verifier = connection.pgconn.encrypt_password(
                password.encode(), self.role.encode(), b"scram-sha-256"
            )
            self._run(
                connection,
                "CREATE ROLE {name} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
                " CONNECTION LIMIT {limit} PASSWORD {verifier}",
                limit=sql.Literal(connection_limit),
                verifier=sql.Literal(verifier.decode()),
            )
            self._run(connection, "COMMENT ON ROLE {name} IS {mark}", mark=sql.Literal(self._mark(job_id)))
            # Who is no superuser may only give a database to a role whose member he is, and drop it as one.
            self._run(connection, "GRANT {name} TO CURRENT_USER")
        return {"role": self.role}

    def create_database(self, job_id: UUID) -> dict[str, Any]:
        """The job's database is there and belongs to its role; nobody can connect to it yet."""
        with self._session() as connection:
            found = self._find(connection)
            if found.mark != self._mark(job_id):
                raise _gone()
            if not found.has_database:
                self._run(connection, "CREATE DATABASE {name} OWNER {name} ALLOW_CONNECTIONS false")
            elif not found.owns_database:
                raise _taken()
        return {"database": self.database}

    def open(self, job_id: UUID) -> dict[str, Any]:
        """The role, and nobody else but superusers, can connect to its database."""
        with self._session() as connection, connection.transaction():
            if not self._has_made(self._find(connection), job_id):
                raise _gone()
            self._run(connection, "REVOKE ALL ON DATABASE {name} FROM PUBLIC")
            self._run(connection, "GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {name} TO {name}")
            self._run(connection, "ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")
            self._run(connection, "ALTER ROLE {name} LOGIN")
        return {"database": self.database}

    def close(self, job_id: UUID) -> dict[str, Any]:
        """No new session of the job's role or in its database can begin."""
        with self._session() as connection, connection.transaction():
            found = self._find(connection)
            if found.mark == self._mark(job_id):
                self._run(connection, "ALTER ROLE {name} NOLOGIN")
            if self._has_made(found, job_id):
                self._run(connection, "ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
        return {"database": self.database}

    def drop_database(self, job_id: UUID) -> dict[str, Any]:
        """The job's database is gone, and every session in it."""
        with self._session() as connection:
            if self._has_made(self._find(connection), job_id):
                self._run(connection, "DROP DATABASE {name} WITH (FORCE)")
        return {"database": self.database}

    def drop_role(self, job_id: UUID) -> dict[str, Any]:
        """The job's role is gone."""
        with self._session() as connection, connection.transaction():
            if self._find(connection).mark == self._mark(job_id):
                self._run(connection, "DROP ROLE {name}")
        return {"role": self.role}

    def maker(self) -> str | None:
        """The id of the scope's job that made the role, and with it the database; None where there is none of the scope's."""
        mark = self.look().mark
        is_ours = mark is not None and mark.startswith(self._scope_mark)
        return mark.removeprefix(self._scope_mark) if mark is not None and is_ours else None

    def has_role(self, job_id: UUID) -> bool:
        """Whether there is a role that the job made."""
        return self.look().mark == self._mark(job_id)

    def has_database(self, job_id: UUID) -> bool:
        """Whether there is a database that the job made."""
        return self._has_made(self.look(), job_id)

    def is_open(self, job_id: UUID) -> bool:
        """Whether the job's role can connect to its database."""
        found = self.look()
        return self._has_made(found, job_id) and bool(found.is_open and found.has_login)

    def look(self) -> Found:
        """What the catalogue has under the name, when no session is at work on it."""
        with self._session() as connection:
            return self._find(connection)

    def dsn(self, password: str, *, address: str = "") -> str:
        """How the role connects to its database, at this address (host:port) or at the one that we use."""
        host = str(self._address.get("host") or "localhost")
        place = f"[{host}]" if ":" in host else quote(host, safe=",.-_")
        address = address or f"{place}:{self._address.get('port') or 5432}"
        mode = "?sslmode=require" if self._address.get("sslmode") in _SSL_MODES else ""
        return f"postgresql://{self.role}:{quote(password, safe='')}@{address}/{self.database}{mode}"

    def _session(self) -> AbstractContextManager[Session]:
        return session(self._url, self.database, self._timeout)

    def _find(self, connection: Session) -> Found:
        row = connection.execute(_FIND, [self.database]).fetchone()
        if row is None:
            raise RetryableError("The database server's catalogue makes no sense.", code="server_failed")
        return Found(*row)

    def _has_made(self, found: Found, job_id: UUID) -> bool:
        return found.mark == self._mark(job_id) and found.has_database and bool(found.owns_database)

    def _mark(self, job_id: UUID) -> str:
        return f"{self._scope_mark}{job_id}"

    def _run(self, connection: Session, statement: str, **parts: sql.Composable) -> None:
        """The statement with the name and its parts in it, each quoted as what it is."""
        connection.execute(sql.SQL(statement).format(name=self._identifier, **parts))


def _taken() -> EffectRefused:
    """Whoever has it, and whatever it is, the words are the same."""
    return EffectRefused("The name is taken.", code="name_taken")


def _gone() -> EffectRefused:
    return EffectRefused("Somebody has removed what this job had made.", code="removed_meanwhile")


def _misconfigured() -> RetryableError:
    return RetryableError(
        "PROVISION_DATABASE_URL must be the address of a database on the server where databases are provisioned.",
        code="server_not_configured",
    )
