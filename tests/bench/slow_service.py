"""python -m tests.bench.slow_service PORT: an HTTP server that answers each POST after 100 ms.

GET returns how many calls it has answered, how many it holds now, and the most that it has held at once since the last GET.
With the argument `--fast` it answers at once: that is the server against which the load generator is measured.
"""

from __future__ import annotations

import asyncio
import json
import sys

import uvloop

DELAY_SECONDS = 0.1
_HEAD = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
# As long as an answer of Semel, so that the load generator reads as much.
_ACCEPTED = _HEAD % (b"202 Accepted", 600, b"x" * 600)


class Counts:
    """What the server has done."""

    def __init__(self) -> None:
        self.answered = 0
        self.held = 0
        self.most_held = 0

    def report(self) -> bytes:
        """Return the counts as JSON and begin to look for the most calls again."""
        counts = {"answered": self.answered, "held": self.held, "most_held": self.most_held}
        self.most_held = self.held
        return json.dumps(counts).encode()


class Service(asyncio.Protocol):
    """One connection. Requests are small, so each one arrives in one or two pieces."""

    def __init__(self, counts: Counts, delay: float) -> None:
        self._counts, self._delay = counts, delay
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or len(body) < _content_length(head):
            return
        self._received = b""
        if head.startswith(b"GET"):
            report = self._counts.report()
            self._write(_HEAD % (b"200 OK", len(report), report))
        elif self._delay:
            self._hold()
        else:
            self._write(_ACCEPTED)

    def _hold(self) -> None:
        counts = self._counts
        counts.held += 1
        counts.most_held = max(counts.most_held, counts.held)
        asyncio.get_running_loop().call_later(self._delay, self._answer)

    def _answer(self) -> None:
        self._counts.held -= 1
        self._counts.answered += 1
        self._write(_HEAD % (b"200 OK", 2, b"ok"))

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)  # type: ignore[attr-defined] # TCP


def _content_length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(b"content-length:")
    return 0 if at < 0 else int(lower[at + 15 :].split(b"\r", 1)[0])


async def serve(port: int, delay: float) -> None:
    """Serve until a signal ends the process."""
    counts = Counts()
    server = await asyncio.get_running_loop().create_server(
        lambda: Service(counts, delay), "127.0.0.1", port, backlog=1_024
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), 0.0 if "--fast" in sys.argv else DELAY_SECONDS))
