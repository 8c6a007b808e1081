"""A TCP relay in front of the broker. A test can make it refuse connections, stop answering, and work again."""

from __future__ import annotations

import contextlib
import socket
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1"


class BrokerProxy:
    """Relays to the broker at `url`; its own address is in `self.url`. At first it passes everything on."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or HOST, parts.port or 6379)
        self._lock = Lock()
        self._sockets: set[socket.socket] = set()
        # While it is clear, the relay accepts bytes and passes none on, like a frozen broker.
        self._awake = Event()
        self._listener: socket.socket | None = None
        self._port = 0
        # The number of accepted connections.
        self.accepted = 0
        self.come_back()
        credentials, at, _ = parts.netloc.rpartition("@")
        self.url = parts._replace(netloc=f"{credentials}{at}{HOST}:{self._port}").geturl()

    def come_back(self) -> None:
        """Accept connections, and pass on the bytes that were held back."""
        self._awake.set()
        if self._listener is None:
            self._listener = socket.create_server((HOST, self._port), backlog=256)
            self._port = self._listener.getsockname()[1]
            Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def fall_silent(self) -> None:
        """Accept connections, but pass no bytes on."""
        self._awake.clear()

    def refuse(self) -> None:
        """Close every connection and refuse new ones."""
        if self._listener is not None:
            # Only a shutdown wakes the thread that is waiting in accept().
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        with self._lock:
            held = list(self._sockets)
        for one in held:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._awake.set()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _address = listener.accept()
                self.accepted += 1
                try:
                    far = socket.create_connection(self._target)
                except OSError:
                    near.close()
                    continue
                with self._lock:
                    self._sockets |= {near, far}
                for source, sink in ((near, far), (far, near)):
                    Thread(target=self._relay, args=[source, sink], daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                self._pass_on(data, source, sink)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        with self._lock:
            ended = source in self._sockets
            self._sockets -= {source, sink}
        if ended:
            # The shutdown ends the thread of the other direction, too: its read raises an error.
            source.close()
            sink.close()

    def _pass_on(self, data: bytes, source: socket.socket, sink: socket.socket) -> None:
        self._awake.wait()
        sink.sendall(data)


@contextlib.contextmanager
def broker_proxy(url: str) -> Iterator[BrokerProxy]:
    """Run a relay during the block."""
    proxy = BrokerProxy(url)
    try:
        yield proxy
    finally:
        proxy.refuse()
