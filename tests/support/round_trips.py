"""Count the round trips between this thread's connection and PostgreSQL, from libpq's own trace of its messages."""

from __future__ import annotations

import re
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

from django.db import connection
from psycopg.pq import Trace

if TYPE_CHECKING:
    from collections.abc import Iterator

# What the client sends last before it waits: a simple query, or the end of a series of other messages.
_SENT = re.compile(r"^F\t\d+\t(?:Query|Sync)\b", re.MULTILINE)


class RoundTrips:
    """How many there were, once the block has ended."""

    count: int


@contextmanager
def round_trips() -> Iterator[RoundTrips]:
    """Count the round trips inside the block. Statements that are not prepared yet cost one more, as in a new process."""
    connection.ensure_connection()
    libpq = connection.connection.pgconn
    counted = RoundTrips()
    with tempfile.TemporaryFile("w+") as trace:
        libpq.trace(trace.fileno())
        libpq.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)
        try:
            yield counted
        finally:
            libpq.untrace()
        trace.seek(0)
        counted.count = len(_SENT.findall(trace.read()))
