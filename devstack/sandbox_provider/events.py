"""What the provider tells afterwards: each event until it was taken, signed anew each time (Standard Webhooks)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import secrets
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from devstack.sandbox_provider.store import Book

# Seconds between two tries of what was not taken, the first and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
# Seconds that whoever is told may take to answer.
PATIENCE = 5.0

_INSERT = "INSERT INTO event (id, type, body, due_at) VALUES (:id, :type, :body, 0)"


def event(kind: str, data: dict[str, Any], *, key: str, job: str | None) -> tuple[str, dict[str, Any]]:
    """The statement that has this told, to be written with what it tells of."""
    document = {"type": kind, "data": {**data, "request": {"idempotency_key": key, "job": job}}}
    return _INSERT, {"id": f"evt_{secrets.token_hex(12)}", "type": kind, "body": json.dumps(document)}


@dataclass(frozen=True)
class Listener:
    """Who is told, and the secret that is shared with them."""

    url: str
    secret: str


class Messenger(threading.Thread):
    """Tells a listener what is in the book, in no order that could be relied on, at least once."""

    def __init__(self, book: Book, listener: Listener) -> None:
        super().__init__(name="messenger", daemon=True)
        self._book = book
        self._url = urlsplit(listener.url)
        self._key = base64.b64decode(listener.secret.removeprefix("whsec_"))

    def run(self) -> None:
        """Until the process ends. Dying after the listener took an event and before that is noted: it is told again."""
        while True:
            for row in self._book.due_events():
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(row["tries"], 10))
                self._book.note_delivery(row["id"], is_taken=self._tell(row), pause_seconds=pause)
            self._book.await_event(FIRST_PAUSE)

    def _tell(self, row: dict[str, Any]) -> bool:
        """Whether the listener answered 2xx."""
        stamp, body = int(time.time()), row["body"].encode()
        content = b"%s.%d.%s" % (row["id"].encode(), stamp, body)
        signature = base64.b64encode(hmac.digest(self._key, content, hashlib.sha256)).decode()
        headers = {
            "Content-Type": "application/json",
            "webhook-id": row["id"],
            "webhook-timestamp": str(stamp),
            "webhook-signature": f"v1,{signature}",
        }
        connection = http.client.HTTPConnection(self._url.hostname or "", self._url.port, timeout=PATIENCE)
        try:
            connection.request("POST", self._url.path, body, headers)
            return connection.getresponse().status // 100 == 2  # noqa: PLR2004 - success
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
