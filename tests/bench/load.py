"""The load generator: one process that sends prebuilt requests over kept connections and reads only what it must.

It shares the machine with the contestants, as a client on that machine would, so it also reports its own CPU time.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

CONNECTIONS = 16
# Far longer than any answer takes: after that, the request counts as unanswered.
ANSWER_SECONDS = 30.0
ACCEPTED = 202
# A retry comes after so many other keys: its first request has been answered by then.
RETRY_AFTER_KEYS = 500
_READ_BYTES = 65_536
_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"\r\ncontent-length:"
_LAST_CHUNK = b"\r\n0\r\n\r\n"


@dataclass(frozen=True)
class Endpoint:
    """Where requests go, and what all of them have in common."""

    port: int
    path: str
    headers: dict[str, str]
    body: bytes
    host: str = "127.0.0.1"

    def parts(self) -> tuple[bytes, bytes]:
        """Return the bytes of a request before and after its key."""
        fields = {"Host": f"{self.host}:{self.port}", "Content-Type": "application/json", **self.headers}
        lines = [f"POST {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        head = "\r\n".join([*lines, f"Content-Length: {len(self.body)}", "Idempotency-Key: "])
        return head.encode("ascii"), _END_OF_HEAD + self.body


@dataclass
class LoadResult:
    """What a load measured. Only answers that arrived within its time count, except in ``sent``."""

    seconds: float = 0.0
    sent: int = 0
    answers: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)  # seconds
    cpu_seconds: float = 0.0  # of the generator
    unanswered: int = 0

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.answers / self.seconds

    @property
    def refused(self) -> int:
        """How many answers were not 202."""
        return sum(count for status, count in self.statuses.items() if status != ACCEPTED)

    @property
    def cpu_per_request(self) -> float:
        """The generator's CPU seconds per answer."""
        return self.cpu_seconds / max(self.answers, 1)

    def latency_ms(self, percent: float) -> float:
        """Return this percentile of the latencies in milliseconds."""
        return 1_000 * percentile(self.latencies, percent)


def percentile(values: Iterable[float], percent: float) -> float:
    """Return the smallest value that is not below this share of the values; 0 if there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


def new_keys(prefix: str) -> Iterator[bytes]:
    """Yield a new key for each request: the prefix and a number from 0."""
    text = prefix.encode("ascii")
    number = 0
    while True:
        yield b"%s-%d" % (text, number)
        number += 1


def repeated_keys(prefix: str, count: int) -> Iterator[bytes]:
    """Yield the first keys of ``new_keys`` again and again."""
    text = prefix.encode("ascii")
    while True:
        for number in range(count):
            yield b"%s-%d" % (text, number)


def half_retries(prefix: str) -> Iterator[bytes]:
    """Yield new keys, each of them once more after a number of other requests."""
    text = prefix.encode("ascii")
    number = 0
    while True:
        yield b"%s-%d" % (text, number)
        if number >= RETRY_AFTER_KEYS:
            yield b"%s-%d" % (text, number - RETRY_AFTER_KEYS)
        number += 1


def parse_response(data: bytes) -> int | None:
    """Return the status of the response that the data is, None while it is incomplete.

    Its end is known by its Content-Length, or by its last chunk: there is only one request in flight.
    """
    end = data.find(_END_OF_HEAD)
    if end < 0:
        return None
    head = data[:end].lower()
    at = head.find(_LENGTH)
    if at < 0:
        is_complete = data.endswith(_LAST_CHUNK)
    else:
        stop = head.find(b"\r", at + len(_LENGTH))
        length = int(head[at + len(_LENGTH) : stop if stop > 0 else end])
        is_complete = len(data) >= end + len(_END_OF_HEAD) + length
    return int(data[9:12]) if is_complete else None


class Connection:
    """One kept connection with at most one request in flight."""

    __slots__ = ("_received", "answer", "sent_at", "socket")

    def __init__(self, endpoint: Endpoint) -> None:
        self.socket = socket.create_connection((endpoint.host, endpoint.port), timeout=ANSWER_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self._received = b""
        self.answer = b""
        self.sent_at = 0.0

    def send(self, request: bytes) -> None:
        """Send a request. It is far smaller than the socket's buffer, so it leaves in one piece."""
        self.sent_at = time.perf_counter()
        if self.socket.send(request) != len(request):
            raise ConnectionError("The server reads too slowly.")

    def receive(self) -> int | None:
        """Return the status if the response is complete, else None. Raises ConnectionError if the server has closed."""
        data = self.socket.recv(_READ_BYTES)
        if not data:
            raise ConnectionResetError("The server closed the connection.")
        if self._received:
            data = self._received + data
        status = parse_response(data)
        if status is None:
            self._received = data
        else:
            self._received, self.answer = b"", data
        return status


def run_load(
    endpoint: Endpoint, keys: Iterator[bytes], *, seconds: float, connections: int = CONNECTIONS, limit: int = 0
) -> LoadResult:
    """Send a next request on each connection as soon as the last one is answered, until the time or the limit is over."""
    return _ClosedLoop(endpoint, keys, connections, limit).run(seconds)


class _ClosedLoop:
    def __init__(self, endpoint: Endpoint, keys: Iterator[bytes], connections: int, limit: int) -> None:
        self._endpoint, self._keys, self._limit = endpoint, keys, limit
        self._before, self._after = endpoint.parts()
        self._selector = selectors.DefaultSelector()
        self._result = LoadResult()
        self._in_flight: set[Connection] = set()
        self._idle = deque(self._open() for _ in range(connections))

    def run(self, seconds: float) -> LoadResult:
        result = self._result
        cpu, began = time.process_time(), time.perf_counter()
        end = began + seconds
        for connection in self._idle:
            self._send_next(connection)
        self._read_until(end)
        result.seconds = time.perf_counter() - began
        result.cpu_seconds = time.process_time() - cpu
        self._finish()
        return result

    def _read_until(self, end: float) -> None:
        while self._in_flight and (left := end - time.perf_counter()) > 0:
            for ready, _ in self._selector.select(left):
                connection: Connection = ready.data
                if self._answered(connection):
                    self._send_next(connection)

    def _finish(self) -> None:
        """Wait for the answers to what was sent, so that the number of accepted keys is known; then close everything."""
        counted = self._result.answers, len(self._result.latencies), self._result.statuses.copy()
        end = time.perf_counter() + ANSWER_SECONDS
        while self._in_flight and (left := end - time.perf_counter()) > 0:
            for ready, _ in self._selector.select(left):
                self._answered(ready.data)
        self._result.unanswered += len(self._in_flight)
        self._result.answers, number, self._result.statuses = counted
        del self._result.latencies[number:]
        for open_one in list(self._selector.get_map().values()):
            open_one.data.socket.close()
        self._selector.close()

    def _open(self) -> Connection:
        connection = Connection(self._endpoint)
        self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        return connection

    def _send_next(self, connection: Connection) -> None:
        result = self._result
        if self._limit and result.sent >= self._limit:
            return
        result.sent += 1
        self._in_flight.add(connection)
        connection.send(b"%b%b%b" % (self._before, next(self._keys), self._after))

    def _answered(self, connection: Connection) -> bool:
        """Read, and return True if the connection is free for the next request."""
        result = self._result
        try:
            status = connection.receive()
        except ConnectionError:
            return self._replace(connection)
        if status is None:
            return False
        result.answers += 1
        result.statuses[status] += 1
        result.latencies.append(time.perf_counter() - connection.sent_at)
        self._in_flight.discard(connection)
        return True

    def _replace(self, connection: Connection) -> bool:
        """Open a new connection for one that the server has closed; its request counts as unanswered."""
        self._result.unanswered += connection in self._in_flight
        self._in_flight.discard(connection)
        self._selector.unregister(connection.socket)
        connection.socket.close()
        with contextlib.suppress(OSError):
            self._send_next(self._open())
        return False
