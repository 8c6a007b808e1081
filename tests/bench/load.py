"""The load generator: keep-alive connections that each send a request, wait for its answer and send the next.

It runs as a process of its own (`python -m tests.bench.load`, the plan as JSON on standard input, the result as JSON on standard
output), so that its CPU time can be told from that of the server. One generator serves all contestants.
"""

from __future__ import annotations

import json
import random
import resource
import selectors
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"
_LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to send. Each key is used `repeats` times in a row: 2 makes half of the requests retries."""

    url: str
    body: str
    headers: dict[str, str] = field(default_factory=dict)
    connections: int = 16
    seconds: float = 10.0
    repeats: int = 1
    keys: list[str] = field(default_factory=list)  # use these in turn, instead of new ones
    requests: int = 0  # stop after so many; 0: after `seconds`


@dataclass(frozen=True, kw_only=True)
class Load:
    """What came back."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    by_status: dict[str, int]
    cpu_seconds: float
    keys: list[str] = field(default_factory=list, repr=False)  # the first 10,000 that were sent

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds

    @property
    def refused(self) -> int:
        """Return how many answers were not 2xx."""
        return sum(count for status, count in self.by_status.items() if not status.startswith("2"))


class _Connection:
    __slots__ = ("began_at", "received", "socket")

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        self.began_at = 0.0

    def send(self, request: bytes) -> None:
        self.began_at = time.perf_counter()
        self.socket.sendall(request)

    def read_answer(self) -> bytes | None:
        """Return the status of a complete answer, None while it is not complete."""
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the server closed a connection")
        self.received = self.received + data if self.received else data
        head = self.received.find(_HEAD_END)
        if head < 0:
            return None
        if not _is_complete(self.received, head):
            return None
        status, self.received = self.received[9:12], b""
        return status


def _is_complete(answer: bytes, head: int) -> bool:
    """Return whether the body has arrived: by its Content-Length, or by its last chunk."""
    lower = answer[:head].lower()
    at = lower.find(_LENGTH)
    if at < 0:
        return answer.endswith(_LAST_CHUNK)
    end = lower.find(b"\r\n", at)
    length = int(lower[at + len(_LENGTH) : end if end > 0 else None])
    return len(answer) >= head + len(_HEAD_END) + length


def run(plan: Plan) -> Load:
    """Send the plan's requests and measure the answers."""
    parts = urlsplit(plan.url)
    requests = _requests(plan, parts.path, parts.netloc)
    selector = selectors.DefaultSelector()
    for _ in range(plan.connections):
        connection = _Connection((parts.hostname or "", parts.port or 80))
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    statuses: Counter[bytes] = Counter()
    seconds_each: list[float] = []
    sent_keys: list[str] = []
    open_requests = 0
    began_at = time.perf_counter()
    ends_at = began_at + plan.seconds
    for key in list(selector.get_map().values()):
        key.data.send(_next(requests, sent_keys))
        open_requests += 1
    while open_requests:
        for key, _ in selector.select(timeout=30.0) or _time_out():
            connection = key.data
            status = connection.read_answer()
            if status is None:
                continue
            now = time.perf_counter()
            seconds_each.append(now - connection.began_at)
            statuses[status] += 1
            open_requests -= 1
            is_over = len(seconds_each) + open_requests >= plan.requests if plan.requests else now >= ends_at
            if not is_over:
                connection.send(_next(requests, sent_keys))
                open_requests += 1
    seconds = time.perf_counter() - began_at
    seconds_each.sort()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return Load(
        requests=len(seconds_each),
        seconds=seconds,
        p50_ms=quantile(seconds_each, 0.5) * 1000,
        p99_ms=quantile(seconds_each, 0.99) * 1000,
        by_status={status.decode(): count for status, count in statuses.items()},
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        keys=sent_keys,
    )


def quantile(ordered: list[float], share: float) -> float:
    """Return the value below which that share of the ordered values lies; 0 for none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _time_out() -> list[Any]:
    raise TimeoutError("the server has not answered for 30 s")


def _next(requests: Iterator[tuple[str, bytes]], sent_keys: list[str]) -> bytes:
    key, request = next(requests)
    if len(sent_keys) < 10_000:
        sent_keys.append(key)
    return request


def _requests(plan: Plan, path: str, host: str) -> Iterator[tuple[str, bytes]]:
    headers = {"Host": host, "Content-Type": "application/json", **plan.headers, "Content-Length": str(len(plan.body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {path} HTTP/1.1\r\n{lines}Idempotency-Key: ".encode()
    tail = _HEAD_END + plan.body.encode()
    for key in _keys(plan):
        yield key, b"".join((head, key.encode(), tail))


def _keys(plan: Plan) -> Iterator[str]:
    if plan.keys:
        while True:
            yield from plan.keys
    salt, number = f"{random.getrandbits(64):016x}", 0
    while True:
        for _ in range(plan.repeats):
            yield f"bench-{salt}-{number}"
        number += 1


if __name__ == "__main__":
    print(json.dumps(asdict(run(Plan(**json.load(sys.stdin))))))
