"""Run a statement and return its rows as tuples."""

from typing import Any

from django.db import connection


def fetch_all(statement: str, **values: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401 - statement parameters
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def fetch_one(statement: str, **values: Any) -> tuple[Any, ...] | None:  # noqa: ANN401
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        row: tuple[Any, ...] | None = cursor.fetchone()
    return row


def execute(statement: str, **values: Any) -> int:  # noqa: ANN401
    """Return how many rows the statement changed."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        count: int = cursor.rowcount
    return count
