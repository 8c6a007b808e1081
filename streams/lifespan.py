"""The streams process from its start to its end: what runs beside the requests, and what a signal to stop means for them."""

from __future__ import annotations

import asyncio
import resource
import signal
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings

from observability.liveness import Pulse
from streams.application import WaitingApplication
from streams.listener import Listener

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from streams.protocol import Application, Receive, Scope, Send

log = structlog.get_logger(__name__)

# Descriptors besides those of waiting requests: database, Redis, modules, listening sockets, plain requests.
_OTHER_FILES = 256


class StreamsApplication:
    """ASGI 3, with lifespan: from start-up to shut-down the hub looks and the listener listens."""

    def __init__(self, django: Application) -> None:
        self._requests = WaitingApplication(django)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A request, or the process's life."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await self._requests(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()  # lifespan.startup
        async with self._beside_requests():
            await send({"type": "lifespan.startup.complete"})
            await receive()  # lifespan.shutdown
        await send({"type": "lifespan.shutdown.complete"})

    @asynccontextmanager
    async def _beside_requests(self) -> AsyncIterator[None]:
        hub = self._requests.hub
        listener = Listener(settings.REDIS_URL, hub)
        allow_files(settings.STREAMS_MAX_WAITS + _OTHER_FILES)
        announce_stop(hub.close)
        works = (hub.run(), listener.run(), show_life())
        tasks = [asyncio.create_task(work) for work in works]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await listener.close()
            self._requests.close()


async def show_life() -> None:
    """The event loop turns, for `python -m observability.liveness streams`, until this is canceled."""
    pulse = Pulse("streams")
    while True:
        pulse.beat()
        await asyncio.sleep(1.0)


def announce_stop(close: Callable[[], None]) -> None:
    """A signal to stop is told to the open requests before the server acts on it.

    Servers wait for open requests first and tell the application afterwards: it would be told when it is too late.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        handler = signal.getsignal(number)
        if callable(handler):
            signal.signal(number, partial(_stop, loop, close, handler))


def _stop(
    loop: asyncio.AbstractEventLoop,
    close: Callable[[], None],
    handler: Callable[[int, Any], Any],
    number: int,
    frame: Any,  # noqa: ANN401
) -> None:
    loop.call_soon_threadsafe(close)
    handler(number, frame)


def allow_files(needed: int) -> None:
    """This process may open as many files as it needs, if the machine lets it: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    if limit < needed:
        log.warning("streams.few_files", limit=limit, needed=needed)
