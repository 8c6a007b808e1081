"""python -m tests.bench.far_proxy MILLISECONDS LISTEN:TARGET …: TCP proxies on loopback that make a server seem far away.

What one side sends reaches the other after half of the time, so a round trip takes the whole of it. Bytes keep their order, and
any number of them may be on their way.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
from collections import deque
from functools import partial

HOST = "127.0.0.1"


class Side(asyncio.Protocol):
    """One end of a connection; what it receives leaves by the other end later."""

    def __init__(self, delay: float, other: Side | None = None) -> None:
        self._delay, self.other = delay, other
        self.transport: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self._on_its_way: deque[bytes] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        for data in self._early:
            transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._on_its_way.append(data)
        asyncio.get_running_loop().call_later(self._delay, self._pass_on)

    def connection_lost(self, _error: Exception | None) -> None:
        if self.other and self.other.transport:
            asyncio.get_running_loop().call_later(self._delay, self.other.transport.close)

    def send(self, data: bytes) -> None:
        """Send now, or as soon as the connection is there."""
        if self.transport is None:
            self._early.append(data)
        elif not self.transport.is_closing():
            self.transport.write(data)

    def _pass_on(self) -> None:
        assert self.other
        self.other.send(self._on_its_way.popleft())


class Front(Side):
    """The client's end. It connects to the target when a client has connected."""

    def __init__(self, delay: float, target: int) -> None:
        super().__init__(delay, Side(delay))
        self._target = target

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connecting = asyncio.create_task(self._connect())

    async def _connect(self) -> None:
        back = self.other
        assert back
        back.other = self
        try:
            await asyncio.get_running_loop().create_connection(lambda: back, HOST, self._target)
        except OSError:
            assert self.transport
            self.transport.close()


async def serve(delay: float, ports: list[list[int]]) -> None:
    """Serve until a signal ends the process."""
    for listen, target in ports:
        front = partial(Front, delay, target)
        await asyncio.get_running_loop().create_server(front, HOST, listen, backlog=1_024)
    await asyncio.Event().wait()


def precise_loop() -> asyncio.AbstractEventLoop:
    """Return a loop whose timers are exact; the usual one, with epoll, rounds each of them up to a millisecond."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


if __name__ == "__main__":
    pairs = [[int(port) for port in pair.split(":")] for pair in sys.argv[2:]]
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        runner.run(serve(float(sys.argv[1]) / 2_000, pairs))
