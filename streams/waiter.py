"""One open request: it sleeps until there is news, its time is over, or its client has left."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from jobs.queries.watch import Position

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streams.protocol import Receive, Send

_NOWHERE = Position(0, None)


class ClientGone(Exception):  # noqa: N818 - an end like any other
    """The client has left, or takes nothing any more; nobody is there to answer."""


class Waiter:
    """What the hub knows of one request, and how it wakes it.

    No task of its own: the request's coroutine sleeps in `receive()`, which returns when the client leaves, under a time-out
    which the hub moves to now. Thousands of them cost a coroutine and a timer each.
    """

    __slots__ = (
        "_asleep",
        "_has_news",
        "_receive",
        "_send",
        "_send_seconds",
        "_timeout",
        "key_id",
        "must_end",
        "position",
    )

    def __init__(self, receive: Receive, send: Send, *, send_seconds: float) -> None:
        """``send_seconds``: how long a client may take to take what it is sent."""
        self._receive = receive
        self._send = send
        self._send_seconds = send_seconds
        self._timeout: asyncio.Timeout | None = None
        self._asleep = False
        self._has_news = False
        # The newest that is known of the job; the API key on which the request came in; whether the request is to end now.
        self.position = _NOWHERE
        self.key_id: str | None = None
        self.must_end = False

    def begin(self, position: Position, *, key_id: str) -> None:
        """The request was let in: on this key, at this reading of the job, unless newer news have come meanwhile."""
        self.key_id = key_id
        if position.seq > self.position.seq:
            self.position = position

    def notice(self, position: Position) -> None:
        """There is news of the job. A late answer to an early question is none."""
        if position.state is None or position.seq >= self.position.seq:
            self.position = position
            self._has_news = True
            if self._asleep:
                self._interrupt()

    def end(self) -> None:
        """The request is to end now, even if it is busy with a client that does not read."""
        self.must_end = self._has_news = True
        self._interrupt()

    async def sleep(self, until: float) -> None:
        """It is `until` (by the loop's clock), or there was news since the last sleep. Raises ClientGone."""
        if not self._has_news:
            self._asleep = True
            try:
                async with asyncio.timeout_at(until) as self._timeout:
                    while (await self._receive())["type"] != "http.disconnect":
                        pass
            except TimeoutError:
                pass
            else:
                raise ClientGone
            finally:
                self._asleep, self._timeout = False, None
        self._has_news = False

    async def send(self, message: Mapping[str, object]) -> None:
        """The server has taken the message. Raises ClientGone where the client does not read for so long that it cannot.

        The server holds back a sender whose client is some 64 KiB behind: that, and this message, is all that may pile up.
        """
        try:
            async with asyncio.timeout(self._send_seconds) as self._timeout:
                await self._send(message)
        except TimeoutError:
            await self._cut()
            raise ClientGone from None
        finally:
            self._timeout = None

    async def _cut(self) -> None:
        """The connection is gone, with all that was to be sent over it. ASGI has no word for that; uvicorn's transport does."""
        transport = getattr(getattr(self._send, "__self__", None), "transport", None)
        if transport is not None:
            transport.abort()
            while (await self._receive())["type"] != "http.disconnect":
                pass

    def _interrupt(self) -> None:
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(asyncio.get_running_loop().time())
