"""Thousands of open connections: requests at a steady rate on all of them in turn, or one on each at the same instant."""

from __future__ import annotations

import resource
import selectors
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self

from tests.bench.load import ANSWER_SECONDS, Connection, Endpoint, LoadResult

# Files that this process needs besides the connections.
OTHER_FILES = 200


@contextmanager
def many_files(count: int) -> Iterator[None]:
    """Let this process open so many files; what it starts outside of the block gets the usual limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(count + OTHER_FILES, hard)), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Crowd:
    """Many connections to one endpoint; a context manager that closes them."""

    def __init__(self, endpoint: Endpoint, count: int) -> None:
        self._before, self._after = endpoint.parts()
        self._selector = selectors.DefaultSelector()
        self._idle: deque[Connection] = deque()
        self._in_flight: set[Connection] = set()
        self._result = LoadResult()
        self.not_connected = self.closed = 0
        for _ in range(count):
            try:
                connection = Connection(endpoint)
            except OSError:
                self.not_connected += 1
            else:
                self._selector.register(connection.socket, selectors.EVENT_READ, connection)
                self._idle.append(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in list(self._selector.get_map().values()):
            each.data.socket.close()
        self._selector.close()

    def send_at_rate(self, keys: Iterator[bytes], *, rate: float, seconds: float) -> LoadResult:
        """Send at this rate, whether earlier answers have come or not. A latency begins when its request was due."""
        result = self._result = LoadResult()
        began = time.perf_counter()
        cpu = time.process_time()
        while (now := time.perf_counter()) < began + seconds:
            while began + result.sent / rate <= now and self._idle:
                due = began + result.sent / rate
                self._send(next(keys)).sent_at = due
            self._read(max(0.0, began + result.sent / rate - time.perf_counter()))
        result.seconds = time.perf_counter() - began
        result.cpu_seconds = time.process_time() - cpu
        self._read_all()
        return result

    def send_at_once(self, keys: Sequence[bytes]) -> tuple[LoadResult, list[tuple[bytes, bytes]]]:
        """Send one request on each connection; return the result, and each key with its complete answer."""
        result = self._result = LoadResult()
        began = time.perf_counter()
        sent = [(key, self._send(key)) for key in keys if self._idle]
        self._read_all()
        result.seconds = time.perf_counter() - began
        return result, [(key, connection.answer) for key, connection in sent]

    def _send(self, key: bytes) -> Connection:
        connection = self._idle.popleft()
        self._result.sent += 1
        self._in_flight.add(connection)
        connection.send(b"%b%b%b" % (self._before, key, self._after))
        return connection

    def _read_all(self) -> None:
        end = time.perf_counter() + ANSWER_SECONDS
        while self._in_flight and (left := end - time.perf_counter()) > 0:
            self._read(left)
        self._result.unanswered += len(self._in_flight)

    def _read(self, seconds: float) -> None:
        for ready, _ in self._selector.select(seconds):
            connection: Connection = ready.data
            try:
                status = connection.receive()
            except ConnectionError:
                self._remove(connection)
                continue
            if status is not None:
                self._result.answers += 1
                self._result.statuses[status] += 1
                self._result.latencies.append(time.perf_counter() - connection.sent_at)
                self._in_flight.discard(connection)
                self._idle.append(connection)

    def _remove(self, connection: Connection) -> None:
        """Forget a connection that the server has closed."""
        self.closed += 1
        self._result.unanswered += connection in self._in_flight
        self._in_flight.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._selector.unregister(connection.socket)
        connection.socket.close()
