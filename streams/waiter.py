"""One open request: it sleeps until its job changes, its time is over, or its client disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.queries.watch import Position

if TYPE_CHECKING:
    from streams import Receive, Send

_UNKNOWN_POSITION = Position(0, None)


class ClientGone(Exception):  # noqa: N818 - a normal end
    """The client has disconnected, or has stopped reading. No response can be sent."""


@dataclass(slots=True, eq=False)
class Waiter:
    """One open request: its job's newest position, and the means by which the hub wakes it.

    It has no task of its own: the request's coroutine sleeps in `receive()`, which returns when the client disconnects, under
    a time-out that the hub moves to now. So thousands of requests cost a coroutine and a timer each.
    """

    _receive: Receive
    _send: Send
    _send_seconds: float  # how long one send may block
    position: Position = _UNKNOWN_POSITION  # the job's newest known one
    key_id: str | None = None  # the request's API key
    must_end: bool = False
    _timeout: asyncio.Timeout | None = None
    _is_asleep: bool = False
    _has_news: bool = False

    def start(self, position: Position, *, key_id: str) -> None:
        """Set the API key, and the position that the view has read unless a newer one is known by now."""
        self.key_id = key_id
        if position.seq > self.position.seq:
            self.position = position

    def update(self, position: Position) -> None:
        """Take over the job's new position and wake the request. An older position, from a late read, is ignored."""
        if position.state is None or position.seq >= self.position.seq:
            self.position = position
            self._has_news = True
            if self._is_asleep:
                self._interrupt()

    def end(self) -> None:
        """End the request now, even if it is blocked by a client that does not read."""
        self.must_end = self._has_news = True
        self._interrupt()

    async def sleep(self, until: float) -> None:
        """Sleep until `until` (loop time), or until the job changes.

        Return at once if it has changed since the last sleep. Raises ClientGone.
        """
        if not self._has_news:
            self._is_asleep = True
            try:
                async with asyncio.timeout_at(until) as self._timeout:
                    await self._wait_for_disconnect()
            except TimeoutError:
                pass
            else:
                raise ClientGone
            finally:
                self._is_asleep, self._timeout = False, None
        self._has_news = False

    async def send(self, message: Mapping[str, object]) -> None:
        """Pass the message to the server. Raises ClientGone if the client does not read for `send_seconds`.

        The server blocks a send when its client is about 64 KiB behind. Nothing else than these bytes and this message is
        buffered.
        """
        try:
            async with asyncio.timeout(self._send_seconds) as self._timeout:
                await self._send(message)
        except TimeoutError:
            await self._abort_connection()
            raise ClientGone from None
        finally:
            self._timeout = None

    async def _abort_connection(self) -> None:
        """Close the connection and drop its buffer. ASGI has no message for that, so use uvicorn's transport."""
        transport = getattr(getattr(self._send, "__self__", None), "transport", None)
        if transport is not None:
            transport.abort()
            await self._wait_for_disconnect()

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _interrupt(self) -> None:
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(asyncio.get_running_loop().time())
