"""PostgreSQL as Django knows it, but a server that falls silent is an error within bounded time.

`statement_timeout` is kept by the server: one that is frozen keeps nothing, while its kernel still acknowledges what we send.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from django.db.backends.postgresql import base
from django.db.backends.postgresql.psycopg_any import IsolationLevel

if TYPE_CHECKING:
    from psycopg.abc import RV, PQGen

_WAKE_SECONDS = 0.1  # how often psycopg itself looks up while it waits, for Ctrl-C


class Connection(psycopg.Connection[Any]):
    """A connection that is closed once an answer has not come in `answer_seconds`; None: it waits as long as it takes."""

    answer_seconds: float | None = None

    def wait(self, gen: PQGen[RV], interval: float = _WAKE_SECONDS, timeout: float | None = None) -> RV:
        """What the server answered. OperationalError if it did not: whether it did the work is then unknown.

        Each exchange has the whole time: a statement with its rows, a block of a COPY, a pipeline up to its next sync.
        """
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.answer_seconds)
        except psycopg.errors._WaitTimeout as silence:  # noqa: SLF001 - it has no public name
            # The answer may still come, and must not be read as that to the next statement.
            self.pgconn.finish()
            raise psycopg.OperationalError(
                f"the server has not answered for {self.answer_seconds} s"
            ) from silence


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's, with one more of OPTIONS: `answer_seconds`, for which a statement's answer is waited for (None: for ever)."""

    connection: Connection | None

    def get_connection_params(self) -> dict[str, Any]:
        """What a new connection is made of; `answer_seconds` is for us, not for libpq."""
        params: dict[str, Any] = super().get_connection_params()
        params.pop("answer_seconds", None)
        return params

    def get_new_connection(self, conn_params: dict[str, Any]) -> Connection:
        """A connection with our deadline. Django's own does the same, and has two things more that Semel does without.

        Its pool keeps connections of its own making, and isolation is set by the server's options (settings.DATABASES).
        """
        self.isolation_level = IsolationLevel.READ_COMMITTED
        connection = Connection.connect(**conn_params)
        connection.answer_seconds = self.settings_dict["OPTIONS"].get("answer_seconds")
        return connection

    def is_usable(self) -> bool:
        """Whether the server answers, within the time that a new connection may take."""
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
        """As Django's, but a connection that was dropped as its transaction failed is opened when it is next used.

        Django would connect at once, only to end the transaction: a second wait for a server that has just been found silent.
        """
        if self.connection is None and autocommit == self.settings_dict["AUTOCOMMIT"]:
            return
        super().set_autocommit(autocommit, force_begin_transaction_with_broken_autocommit)
