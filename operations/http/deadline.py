"""One request over one connection of its own: answered in full before a deadline, or not at all.

The time-outs of HTTP clients count anew with every read, so a server that trickles holds them for ever. Here every step,
the name server's included, gets only what is left of one total. And it is known whether anything was sent, from the one
place where bytes leave: no guessing from the kind of error.
"""

from __future__ import annotations

import queue
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import httpcore2
import httpx2

from foundation.spans import span, traceparent

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

# Bytes of an answer: far more than any charge, far less than a worker's memory.
MAX_ANSWER_BYTES = 64 * 1024


class NotSent(Exception):  # noqa: N818 - a fact, not a fault of the caller
    """Not one byte of the request was sent."""


class NoAnswer(Exception):  # noqa: N818 - see above
    """The request was sent, or a part of it, and no whole answer came back."""


@dataclass(frozen=True)
class Answer:
    """What came back, whole. The body is as it was sent, never expanded."""

    status: int
    headers: httpx2.Headers
    body: bytes


def send(request: httpx2.Request, *, timeout: timedelta) -> Answer:
    """The answer, ``timeout`` after the call at the latest. Raises NotSent or NoAnswer.

    No redirects, proxies, cookies or retries. The connection is used once: a kept one may be closed by the other side
    while the next request is on its way, and then nobody knows what became of that.
    """
    with span("call", method=request.method, host=request.url.host):
        if told := traceparent():
            request.headers["traceparent"] = told
        return _send(request, _Deadline(timeout))


def _send(request: httpx2.Request, deadline: _Deadline) -> Answer:
    url = httpcore2.URL(
        scheme=request.url.raw_scheme,
        host=request.url.raw_host,
        port=request.url.port,
        target=request.url.raw_path,
    )
    tls = _tls_context() if url.scheme == b"https" else None
    with httpcore2.HTTPConnection(
        url.origin, ssl_context=tls, network_backend=_Backend(deadline)
    ) as connection:
        try:
            response = connection.handle_request(
                httpcore2.Request(request.method, url, headers=request.headers.raw, content=request.content)
            )
            return Answer(response.status, httpx2.Headers(response.headers), _read_body(response))
        except _BROKEN as error:
            failure = NoAnswer if deadline.has_sent else NotSent
            raise failure(f"{type(error).__name__}: {error}") from error


class _TooLong(Exception):  # noqa: N818
    """The answer is longer than this client reads."""


# Named one by one: an exception of the worker's own, such as a time limit's, must pass and not look like the network's.
_BROKEN = (
    OSError,  # TLS errors and time-outs too
    UnicodeError,  # a host name that cannot be one
    _TooLong,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.TimeoutException,
)


class _Deadline:
    """The end of a call, and whether any of its request has left."""

    def __init__(self, timeout: timedelta) -> None:
        self._end = time.monotonic() + timeout.total_seconds()
        self.has_sent = False

    def left(self) -> float:
        """Seconds that remain, never 0 (which would mean "do not block"). Raises TimeoutError after the end."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("The total time-out is over.")
        return left


class _Backend(httpcore2.NetworkBackend):
    """Connects before the deadline."""

    def __init__(self, deadline: _Deadline) -> None:
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline's
        local_address: str | None = None,  # noqa: ARG002 - any
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,  # noqa: ARG002 - none but ours
    ) -> httpcore2.NetworkStream:
        """A connection to the first of the host's addresses that takes one. Raises OSError."""
        addresses = _resolve(host, port, within=self._deadline.left())
        failure = OSError("The host has no address.")
        for tries, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            try:
                # A fair share for each, so that a dead first address leaves time for the second.
                connection = socket.create_connection(address, timeout=self._deadline.left() / tries)
            except OSError as error:
                failure = error
            else:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return _Stream(connection, self._deadline)
        raise failure


class _Stream(httpcore2.NetworkStream):
    """A connection whose every read and write ends with the deadline."""

    def __init__(self, connection: socket.socket, deadline: _Deadline) -> None:
        self._socket = connection
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the deadline's
        self._socket.settimeout(self._deadline.left())
        return self._socket.recv(max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - the deadline's
        rest = memoryview(buffer)
        while rest:
            self._socket.settimeout(self._deadline.left())
            # Before the call: of a send that fails, nobody knows how much arrived.
            self._deadline.has_sent = True
            try:
                rest = rest[self._socket.send(rest) :]
            except TimeoutError:
                raise
            except OSError as error:
                # The one error after which httpcore still reads: a server may answer and close before it has read all.
                raise httpcore2.WriteError(error) from error

    def close(self) -> None:
        self._socket.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - the deadline's
    ) -> httpcore2.NetworkStream:
        try:
            self._socket.settimeout(self._deadline.left())
            return _Stream(
                ssl_context.wrap_socket(self._socket, server_hostname=server_hostname), self._deadline
            )
        except BaseException:
            self.close()
            raise

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - the base class's
        return self._socket if info == "ssl_object" and isinstance(self._socket, ssl.SSLSocket) else None


def _resolve(host: str, port: int, *, within: float) -> list[tuple[str, int]]:
    """The host's addresses. Raises OSError, or TimeoutError: the resolver has no time-out that a caller could set."""
    answers: queue.SimpleQueue[list[tuple[str, int]] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put([(str(address[0]), int(address[1])) for *_, address in found])
        except Exception as error:  # noqa: BLE001 - raised below, in the thread that asked
            answers.put(error)

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=within)
    except queue.Empty:
        raise TimeoutError(f"The name server did not tell the address of {host} in time.") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _read_body(response: httpcore2.Response) -> bytes:
    body = bytearray()
    for chunk in response.iter_stream():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise _TooLong(f"The answer is longer than {MAX_ANSWER_BYTES} bytes.")
    return bytes(body)


@cache
def _tls_context() -> ssl.SSLContext:
    """Loaded once in a process: reading the system's certificates costs more than a call."""
    return httpx2.create_ssl_context(trust_env=False)
