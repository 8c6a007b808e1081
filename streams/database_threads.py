"""The few threads of the streams process that use the database, and batches of reads that run in them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, ParamSpec, TypeVar

from django.db import connection

P = ParamSpec("P")
R = TypeVar("R")
K = TypeVar("K")
V = TypeVar("V")


class DatabaseThreads:
    """A fixed number of threads, each with one database connection, for any number of open requests."""

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the work in a thread, and return or raise its outcome."""

        def run() -> R:
            # As Django does around a request: a broken connection is replaced.
            connection.close_if_unusable_or_obsolete()
            try:
                return work(*args, **kwargs)
            finally:
                # Keep the connection. CONN_MAX_AGE is 0 here, for Django's own threads, which live for one request.
                connection.close_at = None

        return await asyncio.get_running_loop().run_in_executor(self._pool, run)

    def close(self) -> None:
        """Start no more work. Running work ends at its statement time-out at the latest."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class BatchReader(Generic[K, V]):
    """Read the keys of many requests together: keys that arrive while one read runs go into the next, each key once.

    So a thousand jobs that end in one second cost a few statements, and a single one is not delayed.
    """

    def __init__(self, load: Callable[[Sequence[K]], Mapping[K, V]], *, threads: DatabaseThreads, limit: int) -> None:
        """`limit`: keys per read, so that no request waits for all others."""
        self._load = load
        self._threads = threads
        self._limit = limit
        self._pending: dict[K, asyncio.Future[V | None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V | None:
        """Return the key's value, read after this call began; None if there is none. Raises what the read raises."""
        value = self._pending.get(key)
        if value is None:
            value = self._pending[key] = asyncio.get_running_loop().create_future()
        if self._task is None:
            self._task = asyncio.create_task(self._read_pending())
        # Shielded: a request that is canceled must not cancel the value for the others.
        return await asyncio.shield(value)

    async def _read_pending(self) -> None:
        try:
            while self._pending:
                keys = list(self._pending)[: self._limit]
                await self._read({key: self._pending.pop(key) for key in keys})
        finally:
            self._task = None

    async def _read(self, futures: Mapping[K, asyncio.Future[V | None]]) -> None:
        try:
            values = await self._threads.run(self._load, list(futures))
        except Exception as error:  # noqa: BLE001 - each caller of `get` handles it
            for future in futures.values():
                future.set_exception(error)
                future.exception()  # marks it as retrieved: the callers may be gone by now
            return
        for key, future in futures.items():
            future.set_result(values.get(key))
