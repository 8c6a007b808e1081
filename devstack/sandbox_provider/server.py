"""The provider's HTTP face: who may ask, what was asked, and what goes back over the wire."""

from __future__ import annotations

import contextlib
import hmac
import re
import socket
import socketserver
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from devstack.sandbox_provider.charges import Hangup, Reply, Silence, problem, to_json
from devstack.sandbox_provider.claims import Answer, Call
from devstack.sandbox_provider.requests import (
    BadRequest,
    CancelRequest,
    CaptureRequest,
    check_empty,
    parse_charge,
    parse_refund,
)

if TYPE_CHECKING:
    from devstack.sandbox_provider.charges import Cashier
    from devstack.sandbox_provider.requests import PostRequest

HOST = "127.0.0.1"
_RESEND = re.compile(r"/v1/events/(?P<event>\w+)/resend")
MAX_BODY_BYTES = 64 * 1024
MAX_KEY_CHARACTERS = 255
# Rows of a list, and the most that one answer holds.
LIMIT, MAX_LIMIT = 100, 10_000
# Seconds after which a connection that asks nothing is closed.
IDLE_SECONDS = 60.0


class ProviderServer(ThreadingHTTPServer):
    """A thread for each connection; none of them keeps the process alive."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256  # a burst of first calls waits in line; the default of 5 drops it

    def __init__(self, port: int, *, cashier: Cashier, bearer: str, silent_seconds: float) -> None:
        self.cashier = cashier
        self.bearer = bearer
        self.silent_seconds = silent_seconds
        super().__init__((HOST, port), ProviderHandler)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.server_port}"

    def server_bind(self) -> None:
        """Bound, without HTTPServer's look-up of its own name, which may wait for a name server."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the base class's types
        """Clients that went away are normal here; anything else is a bug and told."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class ProviderHandler(BaseHTTPRequestHandler):
    """One connection."""

    server: ProviderServer
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    # Head and body leave in one piece, at once: in two, the second waits for the first one's acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """POST /v1/charges, /v1/charges/{id}/capture, /v1/charges/{id}/cancel, /v1/refunds and /v1/events/{id}/resend."""
        body = self._read_body()
        if body is None:
            return
        if not self._is_authorized():
            self._send(_UNAUTHORIZED)
            return
        if resent := _RESEND.fullmatch(urlsplit(self.path).path):
            is_there = self.server.cashier.book.resend(resent["event"])
            self._send(_ok({"id": resent["event"]}) if is_there else _NOT_FOUND)
            return
        try:
            request = _asked_for(urlsplit(self.path).path, body)
        except BadRequest as error:
            self._send(problem(400, error.code, str(error)))
            return
        if request is None:
            self._send(_NOT_FOUND)
        else:
            self._take(request)

    def do_GET(self) -> None:
        """GET /v1/charges, /v1/charges/{id}, /v1/refunds, /v1/events, /v1/calls and /v1/stats."""
        if not self._is_authorized():
            self._send(_UNAUTHORIZED)
            return
        url = urlsplit(self.path)
        query = parse_qs(url.query, keep_blank_values=True)
        book = self.server.cashier.book
        try:
            key, limit = query.get("idempotency_key", [None])[0], _limit(query)
        except BadRequest as error:
            self._send(problem(400, error.code, str(error)))
            return
        match url.path:
            case "/v1/charges":
                self._send(_ok({"data": book.charges(key=key, limit=limit)}))
            case "/v1/events":
                self._send(_ok({"data": book.events(limit=limit)}))
            case "/v1/refunds":
                self._send(_ok({"data": book.refunds(key=key, limit=limit)}))
            case "/v1/calls":
                self._send(_ok({"data": book.calls(key=key, limit=limit)}))
            case "/v1/stats":
                self._send(_ok(book.stats()))
            case path if path.startswith("/v1/charges/"):
                charge = book.charge(path.removeprefix("/v1/charges/"))
                self._send(_NO_SUCH_CHARGE if charge is None else _ok(charge))
            case _:
                self._send(_NOT_FOUND)

    def _take(self, request: PostRequest) -> None:
        key = self.headers.get("Idempotency-Key", "")
        if not 1 <= len(key) <= MAX_KEY_CHARACTERS:
            message = f"Idempotency-Key must have 1 to {MAX_KEY_CHARACTERS} characters."
            self._send(problem(400, "idempotency_key_missing", message))
            return
        call = Call(key, request, job=self.headers.get("X-Job"), fence=self.headers.get("X-Fence"))
        match self.server.cashier.take(call):
            case Reply() as reply:
                self._send(reply)
            case Silence():
                self._wait_for_client_to_leave()
                self._hang_up()
            case Hangup():
                self._hang_up()

    def _is_authorized(self) -> bool:
        shown = self.headers.get("Authorization", "")
        return hmac.compare_digest(shown.encode(), f"Bearer {self.server.bearer}".encode())

    def _read_body(self) -> bytes | None:
        """The body, or None where its end cannot be known: that is answered, and the connection closed."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            self.close_connection = True
            self._send(problem(411, "length_required", "Send a Content-Length."))
            return None
        if len(length) > len(str(MAX_BODY_BYTES)) or int(length) > MAX_BODY_BYTES:
            self.close_connection = True
            self._send(problem(413, "too_large", f"The body is longer than {MAX_BODY_BYTES} bytes."))
            return None
        return self.rfile.read(int(length))

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply.answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.answer.body)

    def _wait_for_client_to_leave(self) -> None:
        self.connection.settimeout(self.server.silent_seconds)
        # The end of the stream, a reset or the end of patience: all the same.
        with contextlib.suppress(OSError):
            self.connection.recv(1)

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401 - the base class's names
        """Nothing: the book has every call."""


def _asked_for(path: str, body: bytes) -> PostRequest | None:
    """What is asked for at the address; None where there is no such address. Raises BadRequest."""
    match path.split("/")[1:]:
        case ["v1", "charges"]:
            return parse_charge(body)
        case ["v1", "refunds"]:
            return parse_refund(body)
        case ["v1", "charges", charge, "capture"]:
            check_empty(body)
            return CaptureRequest(charge)
        case ["v1", "charges", charge, "cancel"]:
            check_empty(body)
            return CancelRequest(charge)
    return None


def _ok(document: object) -> Reply:
    return Reply(Answer(200, to_json(document)))


def _limit(query: dict[str, list[str]]) -> int:
    text = query.get("limit", [str(LIMIT)])[0]
    if not (
        text.isascii() and text.isdigit() and len(text) <= len(str(MAX_LIMIT)) and 1 <= int(text) <= MAX_LIMIT
    ):
        raise BadRequest("parameter_invalid", f"limit must be a number from 1 to {MAX_LIMIT}.")
    return int(text)


_UNAUTHORIZED = problem(401, "unauthorized", "Show the key: Authorization: Bearer <key>.")
_NOT_FOUND = problem(404, "not_found", "There is no such address.")
_NO_SUCH_CHARGE = problem(404, "no_such_charge", "There is no such charge.")
