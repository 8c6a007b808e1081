"""The provider's HTTP server: authentication, routing, and answers."""

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

from devstack.sandbox_provider.charges import NoAnswer
from devstack.sandbox_provider.requests import Answer, BadRequest, Call, parse_request, problem, to_json

if TYPE_CHECKING:
    from devstack.sandbox_provider.charges import ChargeService
    from devstack.sandbox_provider.requests import PostRequest

HOST = "127.0.0.1"
_RESEND = re.compile(r"/v1/events/(?P<event>\w+)/resend")
MAX_BODY_BYTES = 64 * 1024
MAX_KEY_CHARACTERS = 255
# Rows in a list: the default, and the most.
LIMIT, MAX_LIMIT = 100, 10_000
# After this time a connection without a request is closed.
IDLE_SECONDS = 60.0


class ProviderServer(ThreadingHTTPServer):
    """A thread for each connection; none of them keeps the process alive."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256  # connections of a burst wait; the default of 5 drops them

    def __init__(self, port: int, *, charges: ChargeService, bearer: str, silent_seconds: float) -> None:
        self.charges = charges
        self.bearer = bearer
        self.silent_seconds = silent_seconds
        super().__init__((HOST, port), ProviderHandler)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}"

    def server_bind(self) -> None:
        """Bind without HTTPServer's look-up of its own name, which may wait for a name server."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the base class's types
        """Ignore clients that disconnected, which is normal here; print anything else, which is a bug."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class ProviderHandler(BaseHTTPRequestHandler):
    server: ProviderServer
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    # Send head and body in one piece: otherwise the body waits for the head's acknowledgement.
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
            is_there = self.server.charges.store.resend(resent["event"])
            self._send(_ok({"id": resent["event"]}) if is_there else _NOT_FOUND)
            return
        try:
            request = parse_request(urlsplit(self.path).path, body)
        except BadRequest as error:
            self._send(problem(400, error.code, str(error)))
            return
        if request is None:
            self._send(_NOT_FOUND)
        else:
            self._handle(request)

    def do_GET(self) -> None:
        """GET /v1/charges, /v1/charges/{id}, /v1/refunds, /v1/events, /v1/calls and /v1/stats."""
        if not self._is_authorized():
            self._send(_UNAUTHORIZED)
            return
        url = urlsplit(self.path)
        query = parse_qs(url.query, keep_blank_values=True)
        store = self.server.charges.store
        try:
            key, limit = query.get("idempotency_key", [None])[0], _limit(query)
        except BadRequest as error:
            self._send(problem(400, error.code, str(error)))
            return
        lists = {"/v1/charges": store.charges, "/v1/refunds": store.refunds, "/v1/calls": store.calls}
        match url.path:
            case path if path in lists:
                self._send(_ok({"data": lists[path](key=key, limit=limit)}))
            case "/v1/events":
                self._send(_ok({"data": store.events(limit=limit)}))
            case "/v1/stats":
                self._send(_ok(store.stats()))
            case path if path.startswith("/v1/charges/"):
                charge = store.charge(path.removeprefix("/v1/charges/"))
                self._send(_NO_SUCH_CHARGE if charge is None else _ok(charge))
            case _:
                self._send(_NOT_FOUND)

    def _handle(self, request: PostRequest) -> None:
        key = self.headers.get("Idempotency-Key", "")
        if not 1 <= len(key) <= MAX_KEY_CHARACTERS:
            message = f"Idempotency-Key must have 1 to {MAX_KEY_CHARACTERS} characters."
            self._send(problem(400, "idempotency_key_missing", message))
            return
        call = Call(key, request, job=self.headers.get("X-Job"), fence=self.headers.get("X-Fence"))
        match self.server.charges.handle(call):
            case Answer() as answer:
                self._send(answer)
            case NoAnswer.KEEP_OPEN:
                self._wait_for_disconnect()
                self._disconnect()
            case NoAnswer.CLOSE:
                self._disconnect()

    def _is_authorized(self) -> bool:
        given = self.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {self.server.bearer}".encode())

    def _read_body(self) -> bytes | None:
        """Return the body; if its end cannot be known, answer, close the connection and return None."""
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

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def _wait_for_disconnect(self) -> None:
        self.connection.settimeout(self.server.silent_seconds)
        # The end of the stream, a reset and a time-out mean the same.
        with contextlib.suppress(OSError):
            self.connection.recv(1)

    def _disconnect(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401 - the base class's names
        """Print nothing: the store has every call."""


def _ok(document: object) -> Answer:
    return Answer(200, to_json(document))


def _limit(query: dict[str, list[str]]) -> int:
    text = query.get("limit", [str(LIMIT)])[0]
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_LIMIT)) and 1 <= int(text) <= MAX_LIMIT):
        raise BadRequest("parameter_invalid", f"limit must be a number from 1 to {MAX_LIMIT}.")
    return int(text)


_UNAUTHORIZED = problem(401, "unauthorized", "Send the key: Authorization: Bearer <key>.")
_NOT_FOUND = problem(404, "not_found", "There is no such path.")
_NO_SUCH_CHARGE = problem(404, "no_such_charge", "There is no such charge.")
