"""A session on the server for provisioned databases: bounded in time, and holding a lock on the name that it works on."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg

from jobs.operations import EffectNotDone, EffectRefused, RetryableError

if TYPE_CHECKING:
    from psycopg.abc import RV, PQGen

# Whole seconds for libpq to connect: a running server answers within one.
CONNECT_SECONDS = 3
_WAKE_SECONDS = 0.1  # psycopg's own default
_MILLISECONDS = 1_000
# The server closed the connection or failed inside: the outcome is unknown. Any other error means that nothing was done.
_OUTCOME_UNKNOWN = ("08", "57P", "58", "XX")
_MEANINGS = {
    "42501": ("server_forbids", "lacks a right that it needs; see docs/how-to/provisioning.md"),
    "53300": ("server_busy", "has no connection left"),
    "55006": ("server_busy", "has other sessions in the way, in its template database or in the one to be dropped"),
    "55P03": ("name_busy", "has another session at work under this name"),
    "57014": ("server_slow", "took longer than it may"),
    "2BP01": ("role_owns_more", "has things that belong to the role outside its database"),
}  # fmt: skip


class Session(psycopg.Connection[tuple[Any, ...]]):
    """A connection that closes itself when its statements together take too long, even if the server is frozen."""

    deadline = math.inf

    def wait(self, gen: PQGen[RV], interval: float = _WAKE_SECONDS, timeout: float | None = None) -> RV:
        """Wait for the server's answer until the deadline; then raise OperationalError: the outcome is unknown."""
        if timeout is not None or self.deadline == math.inf:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, max(self.deadline - time.monotonic(), 0.001))
        except psycopg.errors._WaitTimeout as error:  # noqa: SLF001 - it has no public name
            self.pgconn.finish()
            raise psycopg.OperationalError("the server has not answered in time") from error


@contextmanager
def session(url: str, name: str, timeout: timedelta) -> Iterator[Session]:
    """Open a session that holds the server's advisory lock on the name until it ends.

    The server releases the lock when the session ends, and not before: while the session can still receive or run a
    statement, it holds the lock, even if its client has
    died. So what the session reads is final, and a process that freezes between a read and a DROP either blocks its name or has
    lost lock and session together. This does not work through PgBouncer.

    Raises EffectNotDone if certainly nothing was done, RetryableError if that is unknown.
    """
    connection = _connect(url, timeout.total_seconds())
    try:
        connection.execute("SELECT pg_advisory_lock(%s)", [_lock_number(name)])
        yield connection
    except psycopg.Error as error:
        raise _to_operation_error(error) from error
    finally:
        connection.close()


def _connect(url: str, seconds: float) -> Session:
    deadline = time.monotonic() + seconds
    try:
        connection = Session.connect(
            url,
            autocommit=True,
            connect_timeout=CONNECT_SECONDS,
            application_name="semel-provision",
            # Session options outrank what a tenant's role may have set for itself.
            options=_options(seconds),
            tcp_user_timeout=int(seconds * _MILLISECONDS),
        )
    except psycopg.Error as error:
        # psycopg's message names the server's address and our user; a tenant must not see them.
        raise EffectNotDone(
            "The database server could not be reached; see PROVISION_DATABASE_URL.", code="server_unreachable"
        ) from error
    connection.deadline = deadline
    return connection


def _options(seconds: float) -> str:
    """Return session options: statements end when their effect's time is over, lock waits earlier.

    A dead client is detected, so that its lock is released.
    """
    statement = int(seconds * _MILLISECONDS)
    return (
        f"-c statement_timeout={statement} -c lock_timeout={statement // 3} "
        f"-c idle_session_timeout={statement} -c idle_in_transaction_session_timeout={statement} "
        "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3"
    )


def _lock_number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"semel {name}".encode()).digest()[:8], signed=True)


def _to_operation_error(error: psycopg.Error) -> RetryableError | EffectRefused:
    """Return an error without the server's own text, which may quote secrets and stays in our log's traceback."""
    state = error.sqlstate
    if state is None or state.startswith(_OUTCOME_UNKNOWN):
        return RetryableError("The database server closed the connection or did not answer.", code="server_silent")
    code, text = _MEANINGS.get(state, ("server_failed", f"refused a statement ({state})"))
    return EffectNotDone(f"The database server {text}.", code=code)
