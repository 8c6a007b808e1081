"""Django's PostgreSQL backend with a time-out for the server's answer.

`statement_timeout` does not cover this: the server enforces it, and a frozen server enforces nothing while its kernel still
acknowledges what we send (psycopg2#1017).
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any

import psycopg
from django.db.backends.postgresql import base
from django.db.backends.postgresql.psycopg_any import IsolationLevel

if TYPE_CHECKING:
    from psycopg.abc import RV, PQGen

_WAKE_SECONDS = 0.1  # psycopg's own interval for noticing Ctrl-C


class Connection(psycopg.Connection[Any]):
    """Closes itself if an answer does not come within `answer_seconds`. None: waits without a limit."""

    answer_seconds: float | None = None

    def wait(self, gen: PQGen[RV], interval: float = _WAKE_SECONDS, timeout: float | None = None) -> RV:
        """Return the server's answer. Raise OperationalError if none came: it is then unknown whether the work was done.

        Each exchange has the whole time: a statement with its rows, a block of a COPY, a pipeline up to its next sync.
        """
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.answer_seconds)
        except psycopg.errors._WaitTimeout as silence:  # noqa: SLF001 - it has no public name
            # The late answer must not be read as the answer to the next statement.
            self.pgconn.finish()
            raise psycopg.OperationalError(f"the server has not answered for {self.answer_seconds} s") from silence


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's wrapper, with `answer_seconds` as one more of OPTIONS (None: no limit)."""

    connection: Connection | None
    health_check_enabled: bool
    health_check_done: bool

    def get_connection_params(self) -> dict[str, Any]:
        """Return libpq's parameters: without `answer_seconds`, which libpq does not know."""
        params: dict[str, Any] = super().get_connection_params()
        params.pop("answer_seconds", None)
        return params

    def get_new_connection(self, conn_params: dict[str, Any]) -> Connection:
        """Connect with our class. Leaves out what Django's method adds and Semel does not use: a pool and an isolation level.

        The isolation level is set by the server's options (settings.DATABASES).
        """
        self.isolation_level = IsolationLevel.READ_COMMITTED
        connection = Connection.connect(**conn_params)
        connection.answer_seconds = self.settings_dict["OPTIONS"].get("answer_seconds")
        return connection

    def close_if_health_check_failed(self) -> None:
        """Close a connection that the server has ended, so that the next statement opens a new one.

        Django sends a `SELECT 1` for each request. The socket shows as much for free: an open connection has nothing to read
        between two statements, and one that the server or the network has closed has its end to read.
        """
        if self.connection is None or not self.health_check_enabled or self.health_check_done:
            return
        if self.connection.closed or _has_input(self.connection.pgconn.socket):
            super().close_if_health_check_failed()
        self.health_check_done = True

    def is_usable(self) -> bool:
        """Return whether the server answers within `connect_timeout`."""
        if self.connection is None:
            return False
        usual = self.connection.answer_seconds
        self.connection.answer_seconds = self.settings_dict["OPTIONS"]["connect_timeout"]
        try:
            return super().is_usable()
        finally:
            self.connection.answer_seconds = usual

    def set_autocommit(
        self,
        autocommit: bool,  # noqa: FBT001 - Django's signature
        force_begin_transaction_with_broken_autocommit: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        """Do nothing if the connection was dropped while its transaction failed: the next use opens a new one.

        Django would connect at once, only to end the transaction: a second wait for a server that just did not answer.
        """
        if self.connection is None and autocommit == self.settings_dict["AUTOCOMMIT"]:
            return
        super().set_autocommit(autocommit, force_begin_transaction_with_broken_autocommit)


def _has_input(socket: int) -> bool:
    poll = select.poll()
    poll.register(socket, select.POLLIN)
    return bool(poll.poll(0))
