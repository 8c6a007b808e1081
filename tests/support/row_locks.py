"""Sessions that hold row locks, and counts of sessions that wait for them: for races without a clock."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from django.db import connection

from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobs.models import Job

_WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()"""


def connection_parameters() -> dict[str, Any]:
    """Return the parameters for another session with this test's database."""
    parameters = connection.get_connection_params()
    names = ("host", "port", "dbname", "user", "password")
    return {name: parameters[name] for name in names if parameters.get(name)}


@contextmanager
def locked(*jobs: Job) -> Iterator[None]:
    """Hold the jobs' rows in another transaction until the block ends."""
    with psycopg.connect(**connection_parameters()) as session:
        session.execute("SELECT FROM job WHERE id = ANY(%s) FOR UPDATE", [[job.id for job in jobs]])
        yield
        session.rollback()


@contextmanager
def locked_record(record_id: int) -> Iterator[None]:
    """Hold the idempotency record in another transaction until the block ends."""
    with psycopg.connect(**connection_parameters()) as session:
        session.execute("SELECT FROM idempotency_record WHERE id = %s FOR UPDATE", [record_id])
        yield
        session.rollback()


@contextmanager
def locked_key(*, scope: str, key: str) -> Iterator[None]:
    """Hold the key as an unfinished first request does, until the block ends; then roll back."""
    with psycopg.connect(**connection_parameters()) as session:
        session.execute(
            "INSERT INTO idempotency_record (scope, key, fingerprint, fingerprint_version, fingerprint_kid, method, path,"
            " expires_at) VALUES (%s, %s, '', 1, '', '', '', now() + interval '1 day')",
            [scope, key],
        )
        yield
        session.rollback()


def sessions_waiting() -> int:
    """Return how many sessions of this database wait for a lock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # inside a transaction the view is cached
        cursor.execute(_WAITING)
        return int(cursor.fetchone()[0])


def until_waiting(count: int) -> None:
    """Wait until this many sessions wait for a lock."""
    until(lambda: sessions_waiting() == count)
