"""A plain HTTP client, as a user of Semel would write one."""

import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 30.0
ACCEPTED, CONFLICT, UNAVAILABLE = 202, 409, 503


@dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def document(self) -> Any:  # noqa: ANN401 - JSON
        return json.loads(self.body)

    @property
    def is_replay(self) -> bool:
        return self.headers.get("Idempotency-Replayed") == "true"


class Api:
    """Sends requests with a bearer key, each on its own connection."""

    def __init__(self, base_url: str, bearer: str) -> None:
        address = urlsplit(base_url)
        self.host = address.hostname or "127.0.0.1"
        self.port = address.port or 80
        self._bearer = bearer

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def post(self, path: str, body: bytes, key: str) -> Answer:
        """Post JSON under an Idempotency-Key."""
        return self.request("POST", path, body, {"Idempotency-Key": key, "Content-Type": "application/json"})

    def head_of(self, method: str, path: str, headers: dict[str, str], length: int) -> bytes:
        """Return the bytes of a request up to its body, to send on a socket of the caller's own."""
        fields = {"Host": f"{self.host}:{self.port}", "Authorization": f"Bearer {self._bearer}", **headers}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode("ascii")

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send one request and return its response. Raises OSError or HTTPException if there is none."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {self._bearer}", **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()
