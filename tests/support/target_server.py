"""The tests' PostgreSQL as the server on which databases are provisioned, with queries of its catalog."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
from django.db import connection
from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "provisioner-of-a-test"


class TargetServer:
    """The server, with a role for Semel without superuser rights; all that it provisions is removed at the end."""

    def __init__(self) -> None:
        at = connection.settings_dict
        self.superuser = {"host": at["HOST"], "port": at["PORT"], "user": at["USER"], "password": at["PASSWORD"]}
        self.role = f"provisioner_{uuid4().hex[:8]}"
        self.url = f"postgres://{self.role}:{PASSWORD}@{at['HOST']}:{at['PORT']}/postgres"
        self.do(
            "CREATE ROLE {} LOGIN CREATEDB CREATEROLE PASSWORD {}", sql.Identifier(self.role), sql.Literal(PASSWORD)
        )
        self.do("GRANT CONNECT ON DATABASE postgres TO {}", sql.Identifier(self.role))

    @contextmanager
    def session(self, dbname: str = "postgres") -> Iterator[psycopg.Connection[Any]]:
        """Open a session as superuser."""
        with psycopg.connect(**self.superuser, dbname=dbname, autocommit=True) as session:
            yield session

    def do(self, statement: str, *parts: sql.Composable, dbname: str = "postgres") -> None:
        with self.session(dbname) as session:
            session.execute(sql.SQL(statement).format(*parts))

    def ask(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.session() as session:
            return session.execute(query, values).fetchall()

    def made(self, name: str = "") -> tuple[list[str], list[str]]:
        """Return the roles created by Semel's role and their databases, whose names end with this name."""
        roles = self.ask(
            "SELECT DISTINCT role.rolname FROM pg_roles AS role JOIN pg_auth_members AS grants ON grants.roleid = role.oid"
            " JOIN pg_roles AS us ON us.oid = grants.member WHERE us.rolname = %s AND role.rolname LIKE %s",
            self.role,
            f"%{name}",
        )
        databases = self.ask("SELECT datname FROM pg_database WHERE datname LIKE %s", f"s%\\_%{name}")
        return [role for [role] in roles], [database for [database] in databases if name]

    def remove(self, role: str) -> None:
        """Drop a role and its databases."""
        owned = "SELECT datname FROM pg_database AS one JOIN pg_roles AS owner ON owner.oid = datdba WHERE rolname = %s"
        for [database] in self.ask(owned, role):
            self.do("DROP DATABASE {} WITH (FORCE)", sql.Identifier(database))
        self.do("DROP ROLE IF EXISTS {}", sql.Identifier(role))

    def clear(self) -> None:
        for role in self.made()[0]:
            self.remove(role)
        self.do("REVOKE ALL ON DATABASE postgres FROM {}", sql.Identifier(self.role))
        self.remove(self.role)


@contextmanager
def target_server() -> Iterator[TargetServer]:
    server = TargetServer()
    try:
        yield server
    finally:
        server.clear()
