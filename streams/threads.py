"""The few threads of the streams process that talk to the database, each with a connection that it keeps."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from django.db import connection

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")


class Threads:
    """A bounded number of threads and connections, however many requests are open."""

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What the work returns or raises; other coroutines go on meanwhile."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: _with_kept_connection(work, *args, **kwargs))

    def close(self) -> None:
        """No work is begun any more; what is under way ends by its statement time-out at the latest."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _with_kept_connection(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """As Django does around a request: a connection that broke is opened anew, and its health checked once.

    CONN_MAX_AGE is 0 in this process, for Django's own threads, which live for one request; these live as long as it does.
    """
    connection.close_if_unusable_or_obsolete()
    try:
        return work(*args, **kwargs)
    finally:
        connection.close_at = None
