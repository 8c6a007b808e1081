"""The streams application in the test process, without its background tasks: the test runs the hub."""

from __future__ import annotations

import asyncio
import contextlib
import json
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.db import connections

from streams.application import WaitingApplication
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from uuid import UUID

TIMEOUT_SECONDS = 20.0


class Open:
    """One request, passed to the application as a server does."""

    def __init__(self, streams: Streams, scope: dict[str, Any]) -> None:
        self.messages: list[dict[str, Any]] = []
        self._streams = streams
        self._left = asyncio.Event()
        self._is_sent = False
        # True while the application only waits for this request's client to disconnect.
        self.waits = False
        # While this is clear, the client reads nothing.
        self.reads = asyncio.Event()
        self.reads.set()
        self.done: Future[None] = streams.begin(self._run(scope))

    async def _run(self, scope: dict[str, Any]) -> None:
        await self._streams.application(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        if not self._is_sent:
            self._is_sent = True
            return {"type": "http.request", "body": b"", "more_body": False}
        self.waits = True
        try:
            await self._left.wait()
        finally:
            self.waits = False
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        await self.reads.wait()
        self.messages.append(message)

    def leave(self) -> None:
        """Close the client's connection."""
        self._streams.call(self._left.set)

    @property
    def is_answered(self) -> bool:
        return self.done.done()

    def wait(self) -> Open:
        """Wait until the request has ended, and return it."""
        self.done.result(TIMEOUT_SECONDS)
        return self

    @property
    def status(self) -> int:
        return self.messages[0]["status"]

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    def json(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def seqs(self) -> list[int]:
        """The numbers of the received events, in the order of arrival."""
        return [int(line[4:]) for line in self.body.decode().splitlines() if line.startswith("id: ")]


class Streams:
    """Runs the application in an event loop in its own thread."""

    def __init__(self, api_key: str) -> None:
        self.api_key = api_key
        self.application: WaitingApplication
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.application = WaitingApplication(_no_plain)
        self.hub = self.application.hub

    def begin(self, coroutine: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def call(self, function: Any, *args: Any) -> Any:
        """Call the function in the loop's thread and return its result."""

        async def run() -> Any:
            return function(*args)

        return self.begin(run()).result(TIMEOUT_SECONDS)

    def get(self, address: str, *, method: str = "GET", **headers: str) -> Open:
        """Begin a request; header names have underscores."""
        parts = urlsplit(address)
        named = {"host": "localhost", "authorization": f"Bearer {self.api_key}", **headers}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": parts.path,
            "query_string": parts.query.encode(),
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in named.items()],
            "server": ("localhost", 80),
            "client": ("127.0.0.1", 1),
        }
        return Open(self, scope)

    def stream(self, job_id: UUID, query: str = "", **headers: str) -> Open:
        """Begin an event stream."""
        return self.get(f"/v1/jobs/{job_id}/events{query}", accept="text/event-stream", **headers)

    def until_waiting(self, request: Open) -> Open:
        """Wait until the request is admitted and waits, and return it."""
        until(lambda: request.waits or request.is_answered)
        assert not request.is_answered
        return request

    def poll(self) -> None:
        """Let the hub read all watched jobs."""
        self.call(self.hub.poll_soon)
        self.run_hub()

    def run_hub(self) -> None:
        """Let the hub read the hinted jobs."""
        self.begin(self.hub.run_once()).result(TIMEOUT_SECONDS)

    def close(self) -> None:
        for threads in (self.application._gate_threads, self.application._reader_threads):
            self.begin(threads.run(connections.close_all)).result(TIMEOUT_SECONDS)
        self.application.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(TIMEOUT_SECONDS)
        self._loop.close()


@contextlib.contextmanager
def streams_application(api_key: str) -> Iterator[Streams]:
    """Yield the application. Use it with one gate thread, so that its connection can be closed."""
    streams = Streams(api_key)
    try:
        yield streams
    finally:
        streams.close()


async def _no_plain(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": b"plain"})
