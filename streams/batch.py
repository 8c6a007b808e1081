"""Questions of many waiters, asked as one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streams.threads import Threads

K = TypeVar("K")
V = TypeVar("V")


class Batch(Generic[K, V]):
    """Whatever is asked for while one question is under way goes into the next one, each key once.

    So a thousand jobs that end in one second cost a handful of statements, and a single one is not kept waiting.
    """

    def __init__(self, load: Callable[[Sequence[K]], Mapping[K, V]], *, threads: Threads, limit: int) -> None:
        """``limit``: of keys in one question, so that no waiter waits for the whole crowd's."""
        self._load = load
        self._threads = threads
        self._limit = limit
        self._asked: dict[K, asyncio.Future[V | None]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V | None:
        """What is found for the key by a question that begins after this call; None where nothing is. Raises what it raises."""
        answer = self._asked.get(key)
        if answer is None:
            answer = self._asked[key] = asyncio.get_running_loop().create_future()
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_until_none_is_left())
        # Shielded: a waiter that leaves must not take the answer from the others.
        return await asyncio.shield(answer)

    async def _ask_until_none_is_left(self) -> None:
        try:
            while self._asked:
                keys = list(self._asked)[: self._limit]
                answers = {key: self._asked.pop(key) for key in keys}
                await self._ask(answers)
        finally:
            self._asking = None

    async def _ask(self, answers: Mapping[K, asyncio.Future[V | None]]) -> None:
        try:
            found = await self._threads.run(self._load, list(answers))
        except Exception as error:  # noqa: BLE001 - it is each asker's to deal with
            for answer in answers.values():
                answer.set_exception(error)
                answer.exception()  # nobody may be left to hear it, and that is no fault
            return
        for key, answer in answers.items():
            answer.set_result(found.get(key))
