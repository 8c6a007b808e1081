"""Load with thousands of connections from one process: connections that stay open, and requests that all start at once.

    python -m tests.bench.connections http://127.0.0.1:8000 API_KEY open 10000 --rate 300 --seconds 20
    python -m tests.bench.connections http://127.0.0.1:8000 API_KEY burst 10000 --keys 2000

Each connection has one request at a time. As a client should, it opens a connection again that the server has closed while it
was idle, and repeats a request whose key is in progress.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
import uuid
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import uvloop

from foundation.open_files import allow_connections

if TYPE_CHECKING:
    from collections.abc import Sequence

# The job that does the least work.
BODY = {"operation": "demo.sleep", "params": {"seconds": 0}}
# Connections that one client process opens at a time, so that no SYN is lost in the kernel's queue of the server.
CONNECTING_AT_ONCE = 500
# A request without a response after this time counts as an error.
TIMEOUT_SECONDS = 30.0
# The pause before a request is repeated whose key is in progress.
PAUSE_SECONDS = 0.1


@dataclass(frozen=True)
class OpenConnections:
    """What happened on connections that stay open: counts, and seconds from sending a request to the whole response."""

    connected: int
    connect_seconds: float
    requests: int
    replayed: int
    errors: dict[str, int]
    p50_seconds: float
    p99_seconds: float
    longest_seconds: float
    reopened: int


@dataclass(frozen=True)
class Burst:
    """What happened to requests that started at once: counts, and seconds from the first connect."""

    connected: int
    answered: int
    jobs: int
    keys_with_different_answers: int
    in_progress: int
    errors: dict[str, int]
    p50_seconds: float
    last_seconds: float


def open_connections(
    url: str,
    api_key: str,
    *,
    connections: int,
    rate: float,
    seconds: float,
    retried: float = 0.5,
    body: dict[str, Any] = BODY,
) -> OpenConnections:
    """Open the connections, then send requests at this rate per second, each on a connection that is free.

    `retried` is the share of requests that repeat an earlier request of the run under its key.
    """
    return uvloop.run(_Load(url, api_key, body).keep_open(connections, rate, seconds, retried))


def burst(
    url: str, api_key: str, *, requests: int, keys: int, seconds: float = 60.0, body: dict[str, Any] = BODY
) -> Burst:
    """Start all requests at once, each on a new connection, and wait for the responses.

    Each key is used by `requests / keys` of them. A response of 409 "in progress" is counted, and its request repeated.
    """
    return uvloop.run(_Load(url, api_key, body).burst(requests, keys, seconds))


def peak_rate(
    url: str,
    api_key: str,
    *,
    connections: int = 32,
    seconds: float = 5.0,
    retried: float = 0.5,
    body: dict[str, Any] = BODY,
) -> float:
    """Return the requests per second of this many connections, each of which sends its next request after a response."""
    return uvloop.run(_Load(url, api_key, body).peak(connections, seconds, retried))


@dataclass(frozen=True)
class _Response:
    status: int
    is_replayed: bool
    body: bytes

    @property
    def is_in_progress(self) -> bool:
        return self.status == HTTPStatus.CONFLICT and b"idempotency-request-in-progress" in self.body


class _Connection(asyncio.Protocol):
    """One keep-alive connection: sends a request and collects a response with a Content-Length."""

    def __init__(self) -> None:
        self._received = b""
        self._answer: asyncio.Future[_Response] | None = None
        self._transport: asyncio.Transport | None = None
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self.is_open = True

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        if self._answer and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("closed by the server"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, rest = self._received.partition(b"\r\n\r\n")
        if not blank:
            return
        headers = head.lower()
        length = int(headers.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if len(rest) < length:
            return
        self._received = b""
        if self._answer and not self._answer.done():
            is_replayed = b"idempotency-replayed: true" in headers
            self._answer.set_result(_Response(int(head[9:12]), is_replayed, rest))

    def send(self, request: bytes) -> asyncio.Future[_Response]:
        """Send the request. The result has the whole response."""
        self._answer = asyncio.get_running_loop().create_future()
        if self.is_open and self._transport:
            self._transport.write(request)
        else:
            self._answer.set_exception(ConnectionResetError("closed by the server"))
        return self._answer

    def close(self) -> None:
        if self._transport:
            self._transport.abort()


@dataclass
class _Load:
    url: str
    api_key: str
    body: dict[str, Any]
    errors: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    replayed: int = 0
    reopened: int = 0
    # Requests that were accepted, to be repeated.
    accepted: list[bytes] = field(default_factory=list)

    def request(self, key: str) -> bytes:
        body = json.dumps(self.body).encode()
        return (
            f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.api_key}\r\nIdempotency-Key: {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body

    async def connect(self) -> _Connection:
        url = urlsplit(self.url)
        _, connection = await asyncio.get_running_loop().create_connection(
            _Connection, str(url.hostname), url.port or 80
        )
        return connection

    async def connect_all(self, count: int) -> list[_Connection]:
        """Open the connections, each with a first request, and count those that fail."""
        allow_connections(count)
        found: list[_Connection] = []
        gate = asyncio.Semaphore(CONNECTING_AT_ONCE)

        async def one() -> None:
            async with gate:
                try:
                    async with asyncio.timeout(TIMEOUT_SECONDS):
                        connection = await self.connect()
                        await connection.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    found.append(connection)
                except (OSError, TimeoutError) as error:
                    self.errors[f"connect: {type(error).__name__}"] += 1

        await asyncio.gather(*(one() for _ in range(count)))
        return found

    async def ask(self, connection: _Connection, request: bytes, *, is_retry: bool) -> _Connection:
        """Send the request, and record the time or the error. Return the connection, or the one that has replaced it."""
        start = time.perf_counter()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                if not connection.is_open:
                    connection = await self.connect()
                    self.reopened += 1
                response = await connection.send(request)
        except (OSError, TimeoutError) as error:
            self.errors[f"request: {type(error).__name__}"] += 1
            return connection
        self.seconds.append(time.perf_counter() - start)
        if response.status != HTTPStatus.ACCEPTED:
            self.errors[f"status {response.status}"] += 1
        elif is_retry != response.is_replayed:
            self.errors["replayed a new request" if response.is_replayed else "accepted a retry"] += 1
        else:
            self.replayed += is_retry
            if not is_retry:
                self.accepted.append(request)
        return connection

    def next_request(self, retried: float) -> tuple[bytes, bool]:
        """Return a request that was accepted before, for this share of calls, or a new one."""
        if self.accepted and random.random() < retried:
            return random.choice(self.accepted), True
        return self.request(str(uuid.uuid4())), False

    async def keep_open(self, count: int, rate: float, seconds: float, retried: float) -> OpenConnections:
        start = time.perf_counter()
        connections = await self.connect_all(count)
        connect_seconds = time.perf_counter() - start
        random.shuffle(connections)
        free = deque(connections)
        tasks = []

        async def use(connection: _Connection) -> None:
            request, is_retry = self.next_request(retried)
            free.append(await self.ask(connection, request, is_retry=is_retry))

        begin = time.perf_counter()
        for number in range(int(rate * seconds)):
            if (pause := begin + number / rate - time.perf_counter()) > 0:
                await asyncio.sleep(pause)
            if not free:
                self.errors["no free connection"] += 1
                continue
            # The connection that was idle for the longest time: all of them are used in turn.
            tasks.append(asyncio.create_task(use(free.popleft())))
        await asyncio.gather(*tasks)
        for connection in free:
            connection.close()
        return OpenConnections(
            connected=len(connections),
            connect_seconds=connect_seconds,
            requests=len(tasks),
            replayed=self.replayed,
            errors=dict(self.errors),
            p50_seconds=_percentile(self.seconds, 50),
            p99_seconds=_percentile(self.seconds, 99),
            longest_seconds=max(self.seconds, default=0.0),
            reopened=self.reopened,
        )

    async def burst(self, count: int, keys: int, seconds: float) -> Burst:
        allow_connections(count)
        run = uuid.uuid4()
        answers: dict[int, set[bytes]] = {number: set() for number in range(keys)}
        connected = in_progress = 0
        start = time.perf_counter()

        async def one(number: int) -> None:
            nonlocal connected, in_progress
            try:
                async with asyncio.timeout_at(deadline):
                    connection = await self.connect()
                    connected += 1
                    while (response := await connection.send(self.request(f"{run}-{number}"))).is_in_progress:
                        in_progress += 1
                        await asyncio.sleep(PAUSE_SECONDS)
                    connection.close()
            except (OSError, TimeoutError) as error:
                self.errors[type(error).__name__] += 1
                return
            self.seconds.append(time.perf_counter() - start)
            if response.status == HTTPStatus.ACCEPTED:
                answers[number].add(response.body)
            else:
                self.errors[f"status {response.status}"] += 1

        deadline = asyncio.get_running_loop().time() + seconds
        numbers = [number % keys for number in range(count)]
        random.shuffle(numbers)
        await asyncio.gather(*(one(number) for number in numbers))
        return Burst(
            connected=connected,
            answered=len(self.seconds),
            jobs=len({json.loads(body)["id"] for bodies in answers.values() for body in bodies}),
            keys_with_different_answers=sum(len(bodies) > 1 for bodies in answers.values()),
            in_progress=in_progress,
            errors=dict(self.errors),
            p50_seconds=_percentile(self.seconds, 50),
            last_seconds=max(self.seconds, default=0.0),
        )

    async def peak(self, count: int, seconds: float, retried: float) -> float:
        connections = await self.connect_all(count)
        start = time.perf_counter()

        async def use(connection: _Connection) -> None:
            while time.perf_counter() - start < seconds:
                request, is_retry = self.next_request(retried)
                connection = await self.ask(connection, request, is_retry=is_retry)
            connection.close()

        await asyncio.gather(*(use(connection) for connection in connections))
        took = time.perf_counter() - start
        if self.errors:
            raise RuntimeError(f"requests failed: {dict(self.errors)}")
        return len(self.seconds) / took


def _percentile(values: Sequence[float], percent: int) -> float:
    if len(values) < 2:
        return max(values, default=0.0)
    return statistics.quantiles(values, n=100)[percent - 1]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.connections")
    parser.add_argument("url")
    parser.add_argument("api_key")
    parser.add_argument("measurement", choices=["open", "burst", "peak"])
    parser.add_argument("count", type=int)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--keys", type=int, default=2000)
    given = parser.parse_args()
    server, count, seconds = (given.url, given.api_key), given.count, given.seconds
    match given.measurement:
        case "peak":
            print(round(peak_rate(*server, connections=count, seconds=seconds)))
        case "open":
            print(asdict(open_connections(*server, connections=count, rate=given.rate, seconds=seconds)))
        case "burst":
            print(asdict(burst(*server, requests=count, keys=given.keys, seconds=seconds)))


if __name__ == "__main__":
    main()
