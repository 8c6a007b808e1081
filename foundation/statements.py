"""Run statements that are written by hand, bound and prepared by the server: PostgreSQL parses and plans each once a connection.

Django's own cursor merges the values into the text, so that the server plans each execution again: half of its work for a
short statement. A server that binds values derives their types: write a cast where it cannot (`%(name)s::text IS NULL`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import psycopg
from django.db import DEFAULT_DB_ALIAS, InterfaceError, OperationalError, connection, connections

if TYPE_CHECKING:
    from django.db.backends.utils import CursorWrapper
    from psycopg._queries import PostgresQuery

Row = tuple[Any, ...]
Values = Mapping[str, Any] | Sequence[Any]


class Statement(NamedTuple):
    """A statement with its values, for `run_together`."""

    sql: str
    values: Values


def fetch_all(sql: str, *positional: Any, **named: Any) -> list[Row]:  # noqa: ANN401 - the statement's parameters
    """Run the statement with these values and return its rows. Costs one round trip."""
    with _cursor() as cursor:
        cursor.execute(sql, named or positional)
        rows: list[Row] = cursor.fetchall()
    return rows


def fetch_one(sql: str, *positional: Any, **named: Any) -> Row | None:  # noqa: ANN401
    """Run the statement and return its first row, None if it has none."""
    with _cursor() as cursor:
        cursor.execute(sql, named or positional)
        row: Row | None = cursor.fetchone()
    return row


def read_one(sql: str, *positional: Any, **named: Any) -> Row | None:  # noqa: ANN401
    """Run a statement that only reads and return its first row, None if it has none.

    If the connection turns out to be lost, repeat it once on a new one, unless a transaction was lost with it.
    """
    try:
        return fetch_one(sql, *positional, **named)
    except (OperationalError, InterfaceError):
        if connection.in_atomic_block or connection.connection is None or not connection.connection.closed:
            raise
        connection.close()
        return fetch_one(sql, *positional, **named)


def execute(sql: str, *positional: Any, **named: Any) -> int:  # noqa: ANN401
    """Run the statement and return how many rows it changed."""
    with _cursor() as cursor:
        cursor.execute(sql, named or positional)
        count: int = cursor.rowcount
    return count


def run_together(*statements: Statement) -> list[list[Row]]:
    """Run the statements in one round trip and return the rows of each. Outside a transaction they share one.

    All are sent before the first is answered (a libpq pipeline), so none can use the result of another. If one fails, none
    takes effect, and its error is raised.
    """
    cursors = [_cursor() for _ in statements]
    with connection.wrap_database_errors, connection.connection.pipeline():
        for cursor, statement in zip(cursors, statements, strict=True):
            cursor.execute(statement.sql, statement.values)
    return [cursor.fetchall() if cursor.description else [] for cursor in cursors]


class _PreparingCursor(psycopg.Cursor[Row]):
    """Prepares each statement at its first use, unless the connection's `prepare_threshold` is None."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:  # noqa: ANN401 - psycopg's signature
        return super().execute(query, params, prepare=True, **options)

    def _send_query_prepared(self, name: bytes, pgq: PostgresQuery, *, binary: bool | None = None) -> None:
        self._query = pgq  # for Django's log of statements; psycopg sets it for unprepared ones only
        super()._send_query_prepared(name, pgq, binary=binary)


def _cursor() -> CursorWrapper:
    """Return a cursor on Django's connection that reports errors and logs statements as Django's own does."""
    # Not `connection`, which looks the wrapper up at each use. Django's stubs leave out what its own cursor() uses.
    wrapper: Any = connections[DEFAULT_DB_ALIAS]
    wrapper.close_if_health_check_failed()
    if wrapper.connection is None:
        wrapper.ensure_connection()
    cursor: CursorWrapper = wrapper._prepare_cursor(_PreparingCursor(wrapper.connection))  # noqa: SLF001
    return cursor
