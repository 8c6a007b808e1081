"""A session on somebody's PostgreSQL server: bounded in time, alone with its name, and plain about what an error means."""

from __future__ import annotations

import hashlib
import math
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from jobs.operations import EffectNotDone, EffectRefused, RetryableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from psycopg.abc import RV, PQGen

# Whole seconds that libpq may take for a connection: a server that is there answers within one.
CONNECT_SECONDS = 3
_WAKE_SECONDS = 0.1  # how often psycopg itself looks up while it waits
_MILLISECONDS = 1_000
# The server broke off, or never said what came of it. All other errors of a statement say that it did nothing.
_DOUBTFUL = ("08", "57P", "58", "XX")
_MEANINGS = {
    "42501": ("server_forbids", "lacks a right that it needs; see docs/provisioning.md"),
    "53300": ("server_busy", "has no connection left"),
    "55006": ("server_busy", "has other sessions in the way, in its template database or in the one to be dropped"),
    "55P03": ("name_busy", "has another session at work under this name"),
    "57014": ("server_slow", "took longer than it may"),
    "2BP01": ("role_owns_more", "has things that belong to the role outside its database"),
}  # fmt: skip


class Session(psycopg.Connection[tuple[Any, ...]]):
    """A connection that is closed once all that was asked of it has taken too long, if the server is frozen, too."""

    deadline = math.inf

    def wait(self, gen: PQGen[RV], interval: float = _WAKE_SECONDS, timeout: float | None = None) -> RV:
        """What the server answered. OperationalError if it did not in time: whether it did the work is then unknown."""
        if timeout is not None or self.deadline == math.inf:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, max(self.deadline - time.monotonic(), 0.001))
        except psycopg.errors._WaitTimeout as silence:  # noqa: SLF001 - it has no public name
            self.pgconn.finish()
            raise psycopg.OperationalError("the server has not answered in time") from silence


@contextmanager
def session(url: str, name: str, timeout: timedelta) -> Iterator[Session]:
    """A session that nobody shares the name with, from the first look to the last statement.

    The lock is the server's, and the session's: it lasts exactly as long as something can still be sent through it, or still
    runs there though its client has died. So what is found under it is all that earlier sessions have done, for good; and a
    process that freezes between a look and a DROP holds up its name, or has lost both. Not through PgBouncer.

    Raises EffectNotDone where certainly nothing was done, RetryableError where that is unknown.
    """
    with _connected(url, timeout) as connection:
        try:
            connection.execute("SELECT pg_advisory_lock(%s)", [_lock_number(name)])
            yield connection
        except psycopg.Error as error:
            raise _meaning_of(error) from error


@contextmanager
def _connected(url: str, timeout: timedelta) -> Iterator[Session]:
    seconds = timeout.total_seconds()
    deadline = time.monotonic() + seconds
    try:
        connection = Session.connect(
            url,
            autocommit=True,
            connect_timeout=CONNECT_SECONDS,
            application_name="semel-provision",
            # Of our own making: what a tenant's role may have set for itself does not count.
            options=_options(seconds),
            tcp_user_timeout=int(seconds * _MILLISECONDS),
        )
    except psycopg.Error as error:
        # Its words name the server's address and our user, which are no business of a tenant's.
        raise EffectNotDone(
            "The database server could not be reached; see PROVISION_DATABASE_URL.", code="server_unreachable"
        ) from error
    connection.deadline = deadline
    try:
        yield connection
    finally:
        connection.close()


def _options(seconds: float) -> str:
    """No statement outlasts its effect; no lock is waited for that long; a client that is gone is noticed and its lock freed."""
    statement = int(seconds * _MILLISECONDS)
    return (
        f"-c statement_timeout={statement} -c lock_timeout={statement // 3} "
        f"-c idle_session_timeout={statement} -c idle_in_transaction_session_timeout={statement} "
        "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3"
    )


def _lock_number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"semel {name}".encode()).digest()[:8], signed=True)


def _meaning_of(error: psycopg.Error) -> RetryableError | EffectRefused:
    """Whether the statement may have taken effect. The server's own words stay in our log's stack, for they may quote it."""
    state = error.sqlstate
    if state is None or state.startswith(_DOUBTFUL):
        return RetryableError("The database server broke off, or did not answer.", code="server_silent")
    code, words = _MEANINGS.get(state, ("server_failed", f"refused a statement ({state})"))
    return EffectNotDone(f"The database server {words}.", code=code)
