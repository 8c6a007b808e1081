"""All that waits in this process: who waits for which job, and one look at all those jobs together."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from accounts.queries import live_key_ids
from jobs.queries.watch import positions_beyond

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from uuid import UUID

    from broker.wakeups import JobChange
    from streams.threads import Threads
    from streams.waiter import Waiter

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Watched:
    """A job that somebody waits for, and the number of its latest event that the hub has seen."""

    seq: int = 0
    waiters: set[Waiter] = field(default_factory=set)


class Hub:
    """Wakes waiters. The tick finds every change; a hint only makes it be found sooner.

    Everything but the statements happens in the event loop's thread: there is no lock, and nothing between a look at
    `_watched` and what is done about it.
    """

    def __init__(self, *, threads: Threads, tick_seconds: float, recheck_seconds: float) -> None:
        self.is_closing = False
        self._threads = threads
        self._tick_seconds = tick_seconds
        self._recheck_seconds = recheck_seconds
        self._watched: dict[UUID, _Watched] = {}
        self._hinted: set[UUID] = set()
        self._stirred = asyncio.Event()
        self._tick_at = self._recheck_at = 0.0

    @contextmanager
    def watching(self, job_id: UUID, waiter: Waiter) -> Iterator[None]:
        """The waiter hears of every event of the job that is committed from now on; at the end nothing of it is left."""
        watched = self._watched.setdefault(job_id, _Watched())
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
        """Something happened to the job: it is looked at soon, if anybody waits for it."""
        watched = self._watched.get(change.id)
        if watched is not None and change.seq > watched.seq:
            self._hinted.add(change.id)
            self._stirred.set()

    def hints_were_lost(self) -> None:
        """Every job is looked at soon: nobody knows which ones were hinted at."""
        self._tick_at = 0.0
        self._stirred.set()

    def close(self) -> None:
        """Every request is ended now, and one that comes later does not wait."""
        self.is_closing = True
        for waiter in list(self._waiters()):
            waiter.end()

    async def run(self) -> None:
        """Looks, until it is canceled. A database that is away wakes nobody: each request's own time-out goes on."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._tick_at):
                    await self._stirred.wait()
            try:
                await self.run_once()
            except Exception as error:
                log.warning("streams.look_failed", exc_info=error, jobs=len(self._watched))
                await asyncio.sleep(self._tick_seconds)

    async def run_once(self) -> None:
        """What was hinted at is looked at; everything, if a tick is due; and the credentials, if that is due."""
        now = asyncio.get_running_loop().time()
        self._stirred.clear()
        hinted, self._hinted = self._hinted, set()
        if now >= self._tick_at:
            self._tick_at = now + self._tick_seconds
            await self._look(self._watched)
        else:
            await self._look(hinted)
        if now >= self._recheck_at:
            self._recheck_at = now + self._recheck_seconds
            await self._check_credentials()

    async def _look(self, job_ids: Iterable[UUID]) -> None:
        known = {job_id: self._watched[job_id].seq for job_id in job_ids if job_id in self._watched}
        if not known:
            return
        for job_id, position in (await self._threads.run(positions_beyond, known)).items():
            watched = self._watched.get(job_id)
            if watched is None:  # its last waiter left meanwhile
                continue
            watched.seq = position.seq
            for waiter in watched.waiters:
                waiter.notice(position)

    async def _check_credentials(self) -> None:
        """A request whose API key was revoked or has expired ends."""
        key_ids = {waiter.key_id for waiter in self._waiters() if waiter.key_id is not None}
        if not key_ids:
            return
        live = await self._threads.run(live_key_ids, key_ids)
        for waiter in list(self._waiters()):
            if waiter.key_id in key_ids and waiter.key_id not in live:
                waiter.end()

    def _waiters(self) -> Iterator[Waiter]:
        return (waiter for watched in self._watched.values() for waiter in watched.waiters)
