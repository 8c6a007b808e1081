"""The streams process from start to end: its background tasks, and how it stops."""

from __future__ import annotations

import asyncio
import resource
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings

from observability.liveness import LivenessFile
from streams.application import WaitingApplication
from streams.listener import Listener

if TYPE_CHECKING:
    from streams import Application, Receive, Scope, Send

log = structlog.get_logger(__name__)

# File descriptors besides those of waiting requests: database, Redis, modules, listening sockets, plain requests.
_OTHER_FILES = 256


class StreamsApplication:
    """ASGI 3 with lifespan: runs the hub and the listener from start-up to shut-down."""

    def __init__(self, django: Application) -> None:
        self._requests = WaitingApplication(django)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._requests(scope, receive, send)
            return
        await receive()  # lifespan.startup
        async with self._background_tasks():
            await send({"type": "lifespan.startup.complete"})
            await receive()  # lifespan.shutdown
        await send({"type": "lifespan.shutdown.complete"})

    @asynccontextmanager
    async def _background_tasks(self) -> AsyncIterator[None]:
        hub = self._requests.hub
        listener = Listener(settings.REDIS_URL, hub)
        raise_file_limit(settings.STREAMS_MAX_WAITS + _OTHER_FILES)
        call_before_stop(hub.close)
        tasks = [asyncio.create_task(work) for work in (hub.run(), listener.run(), touch_liveness_file())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await listener.close()
            self._requests.close()


async def touch_liveness_file() -> None:
    """Show every second, until canceled, that the event loop runs (`python -m observability.liveness streams`)."""
    liveness_file = LivenessFile("streams")
    while True:
        liveness_file.touch()
        await asyncio.sleep(1.0)


def call_before_stop(close: Callable[[], None]) -> None:
    """On SIGTERM and SIGINT, call `close` before the server's own handler.

    A server waits for open requests first and sends lifespan.shutdown afterwards, which is too late to end them.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        if callable(handler := signal.getsignal(number)):
            signal.signal(number, partial(_close_and_stop, loop, close, handler))


def _close_and_stop(
    loop: asyncio.AbstractEventLoop, close: Callable[[], None], handler: Callable[..., Any], *signal_args: object
) -> None:
    loop.call_soon_threadsafe(close)
    handler(*signal_args)


def raise_file_limit(needed: int) -> None:
    """Raise the limit on open files, as far as the system allows: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    if limit < needed:
        log.warning("streams.few_files", limit=limit, needed=needed)
