"""Send an HTTP request on its own connection, with one deadline for the complete response.

HTTP clients restart their time-out with every read, so a server that sends single bytes can hold them for ever. Here every
step, name resolution included, gets only what is left of one total. Whether any byte was sent is recorded where bytes leave
the socket, not inferred from the kind of error.
"""

from __future__ import annotations

import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

import httpcore2
import httpx2

from foundation.spans import span, traceparent

# Far more than any answer about a charge, far less than a worker's memory.
MAX_RESPONSE_BYTES = 64 * 1024
# The longest wait that a downstream can impose on a job: a wrong clock there must not postpone it for a year.
RETRY_AFTER_MAX = timedelta(hours=1)


class NotSent(Exception):  # noqa: N818 - a fact, not a fault of the caller
    """Not one byte of the request was sent."""


class NoResponse(Exception):  # noqa: N818 - see above
    """All or part of the request was sent, and no complete response was received."""


@dataclass(frozen=True)
class Response:
    """A complete response. The body is as it was sent, never decompressed."""

    status: int
    headers: httpx2.Headers
    body: bytes


def send(request: httpx2.Request, *, timeout: timedelta) -> Response:
    """Send the request and return the response within ``timeout``. Raises NotSent or NoResponse.

    No redirects, proxies, cookies or retries. The connection is used once: the server may close a kept one while the next
    request is on its way, and then the outcome of that request is unknown.
    """
    with span("call", method=request.method, host=request.url.host):
        if parent := traceparent():
            request.headers["traceparent"] = parent
        return _send(request, _Deadline(timeout))


def parse_retry_after(value: str | None) -> timedelta | None:
    """Parse a Retry-After header (RFC 9110 §10.2.3: seconds or an HTTP date).

    Return a wait from 0 to RETRY_AFTER_MAX, or None if the header is missing or malformed.
    """
    value = (value or "").strip()
    if value.isascii() and value.isdigit():
        # Compare lengths first: int() refuses thousands of digits, and timedelta millions of years.
        digits = value.lstrip("0") or "0"
        return min(timedelta(seconds=int(digits)), RETRY_AFTER_MAX) if len(digits) < 5 else RETRY_AFTER_MAX  # noqa: PLR2004
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)  # "-0000" is UTC as well
    return min(max(at - datetime.now(UTC), timedelta(0)), RETRY_AFTER_MAX)


def _send(request: httpx2.Request, deadline: _Deadline) -> Response:
    url = httpcore2.URL(
        scheme=request.url.raw_scheme, host=request.url.raw_host, port=request.url.port, target=request.url.raw_path
    )
    tls = _tls_context() if url.scheme == b"https" else None
    with httpcore2.HTTPConnection(url.origin, ssl_context=tls, network_backend=_Backend(deadline)) as connection:
        try:
            response = connection.handle_request(
                httpcore2.Request(request.method, url, headers=request.headers.raw, content=request.content)
            )
            return Response(response.status, httpx2.Headers(response.headers), _read_body(response))
        except _NETWORK_ERRORS as error:
            failure = NoResponse if deadline.has_sent else NotSent
            raise failure(f"{type(error).__name__}: {error}") from error


# Listed one by one: the worker's own exceptions, such as a time limit's, must pass and not look like network errors.
_NETWORK_ERRORS = (
    OSError,  # TLS errors and time-outs too
    UnicodeError,  # an impossible host name
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.TimeoutException,
)


class _Deadline:
    """The end of a call, and whether any byte of its request was sent."""

    def __init__(self, timeout: timedelta) -> None:
        self._end = time.monotonic() + timeout.total_seconds()
        self.has_sent = False

    def left(self) -> float:
        """Return the seconds that remain, never 0 (which would mean "do not block"). Raises TimeoutError after the end."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("The total time-out is over.")
        return left


class _Backend(httpcore2.NetworkBackend):
    def __init__(self, deadline: _Deadline) -> None:
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline counts
        local_address: str | None = None,  # noqa: ARG002 - any
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,  # noqa: ARG002 - only ours
    ) -> httpcore2.NetworkStream:
        """Connect to the first of the host's addresses that accepts. Raises OSError."""
        addresses = _resolve(host, port, within=self._deadline.left())
        failure = OSError("The host has no address.")
        for tries, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            try:
                # Share the time, so that an unreachable first address leaves some for the second.
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

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the deadline counts
        self._socket.settimeout(self._deadline.left())
        return self._socket.recv(max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - the deadline counts
        rest = memoryview(buffer)
        while rest:
            self._socket.settimeout(self._deadline.left())
            # Set before the call: how much a failed send has transmitted is unknown.
            self._deadline.has_sent = True
            try:
                rest = rest[self._socket.send(rest) :]
            except TimeoutError:
                raise
            except OSError as error:
                # After this error alone httpcore still reads: a server may answer and close before it has read all.
                raise httpcore2.WriteError(error) from error

    def close(self) -> None:
        self._socket.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - the deadline counts
    ) -> httpcore2.NetworkStream:
        try:
            self._socket.settimeout(self._deadline.left())
            encrypted = ssl_context.wrap_socket(self._socket, server_hostname=server_hostname)
        except BaseException:
            self.close()
            raise
        return _Stream(encrypted, self._deadline)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - the base class's
        return self._socket if info == "ssl_object" and isinstance(self._socket, ssl.SSLSocket) else None


def _resolve(host: str, port: int, *, within: float) -> list[tuple[str, int]]:
    """Resolve the host in a thread, since the system's resolver takes no time-out. Raises OSError or TimeoutError."""
    results: queue.SimpleQueue[list[tuple[str, int]] | Exception] = queue.SimpleQueue()

    def resolve() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            results.put([(str(address[0]), int(address[1])) for *_, address in found])
        except Exception as error:  # noqa: BLE001 - raised below, in the calling thread
            results.put(error)

    threading.Thread(target=resolve, name="resolve", daemon=True).start()
    try:
        result = results.get(timeout=within)
    except queue.Empty:
        raise TimeoutError(f"The name server did not resolve {host} in time.") from None
    if isinstance(result, Exception):
        raise result
    return result


def _read_body(response: httpcore2.Response) -> bytes:
    body = bytearray()
    for chunk in response.iter_stream():
        body += chunk
        if len(body) > MAX_RESPONSE_BYTES:
            raise httpcore2.RemoteProtocolError(f"The response is longer than {MAX_RESPONSE_BYTES} bytes.")
    return bytes(body)


@cache
def _tls_context() -> ssl.SSLContext:
    """Load the system's certificates once per process: that costs more than a call."""
    return httpx2.create_ssl_context(trust_env=False)
