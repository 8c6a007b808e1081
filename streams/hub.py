"""The hub: which requests wait for which job, and one read of the positions of all those jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from accounts.credential_cache import credential_cache
from accounts.queries import live_key_ids
from jobs.queries.watch import positions_after

if TYPE_CHECKING:
    from broker.wakeups import JobChange
    from streams.database_threads import DatabaseThreads
    from streams.waiter import Waiter

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _WatchedJob:
    seq: int = 0  # of the latest event that the hub has read
    waiters: set[Waiter] = field(default_factory=set)


class Hub:
    """Wakes waiting requests. The regular poll finds every change; a wake-up only makes the hub find it sooner.

    Everything but the statements runs in the event loop's thread. So there is no lock, and no change between a read of
    `_watched` and what follows from it.
    """

    def __init__(self, *, threads: DatabaseThreads, poll_seconds: float, reauth_seconds: float) -> None:
        self.is_closing = False
        self._threads = threads
        self._poll_seconds = poll_seconds
        self._reauth_seconds = reauth_seconds
        self._watched: dict[UUID, _WatchedJob] = {}
        self._hinted: set[UUID] = set()
        self._has_work = asyncio.Event()
        self._poll_at = self._reauth_at = 0.0

    @contextmanager
    def watch(self, job_id: UUID, waiter: Waiter) -> Iterator[None]:
        """Notify the waiter, inside the block, of every event of the job that is committed from now on."""
        watched = self._watched.setdefault(job_id, _WatchedJob())
        watched.waiters.add(waiter)
        if self.is_closing:
            waiter.end()
        try:
            yield
        finally:
            watched.waiters.discard(waiter)
            if not watched.waiters:
                self._watched.pop(job_id, None)

    def hint(self, change: JobChange) -> None:
        """Read the job's position soon, if a request waits for it and the change is new."""
        watched = self._watched.get(change.id)
        if watched is not None and change.seq > watched.seq:
            self._hinted.add(change.id)
            self._has_work.set()

    def poll_soon(self) -> None:
        """Read the positions of all watched jobs soon: hints may have been lost."""
        self._poll_at = 0.0
        self._has_work.set()

    def close(self) -> None:
        """End every request now; later ones do not wait."""
        self.is_closing = True
        for waiter in list(self._waiters()):
            waiter.end()

    async def run(self) -> None:
        """Poll until canceled. While the database fails no waiter is woken; each request's own time-out still applies."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._poll_at):
                    await self._has_work.wait()
            try:
                await self.run_once()
            except Exception as error:
                log.warning("streams.poll_failed", exc_info=error, jobs=len(self._watched))
                await asyncio.sleep(self._poll_seconds)

    async def run_once(self) -> None:
        """Read the hinted jobs, or all watched jobs if the poll is due; check the API keys if that is due."""
        now = asyncio.get_running_loop().time()
        self._has_work.clear()
        hinted, self._hinted = self._hinted, set()
        if now >= self._poll_at:
            self._poll_at = now + self._poll_seconds
            await self._read_positions(self._watched)
        else:
            await self._read_positions(hinted)
        if now >= self._reauth_at:
            self._reauth_at = now + self._reauth_seconds
            await self._check_api_keys()

    async def _read_positions(self, job_ids: Iterable[UUID]) -> None:
        known = {job_id: self._watched[job_id].seq for job_id in job_ids if job_id in self._watched}
        if not known:
            return
        for job_id, position in (await self._threads.run(positions_after, known)).items():
            watched = self._watched.get(job_id)
            if watched is None:  # its last waiter has left in the meantime
                continue
            watched.seq = position.seq
            for waiter in watched.waiters:
                waiter.update(position)

    async def _check_api_keys(self) -> None:
        """End the requests whose API key was revoked or has expired."""
        key_ids = {waiter.key_id for waiter in self._waiters() if waiter.key_id is not None}
        if not key_ids:
            return
        live = await self._threads.run(live_key_ids, key_ids)
        credential_cache.forget(key_ids - live)
        for waiter in list(self._waiters()):
            if waiter.key_id in key_ids and waiter.key_id not in live:
                waiter.end()

    def _waiters(self) -> Iterator[Waiter]:
        return (waiter for watched in self._watched.values() for waiter in watched.waiters)
