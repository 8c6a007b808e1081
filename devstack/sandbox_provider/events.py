"""Events that the provider sends until they are accepted, each delivery signed again (Standard Webhooks).

The signature is computed here, not by the library that the API verifies with: so one implementation checks the other.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import secrets
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from devstack.sandbox_provider.store import Store

# Seconds until a delivery that was not accepted is repeated: the first pause and the longest.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 10.0
RESPONSE_SECONDS = 5.0

_INSERT = "INSERT INTO event (id, type, body, due_at) VALUES (:id, :type, :body, 0)"


def insert_event(kind: str, data: dict[str, Any], *, key: str, job: str | None) -> tuple[str, dict[str, Any]]:
    """Return the statement that queues an event, to be committed together with what it reports."""
    document = {"type": kind, "data": {**data, "request": {"idempotency_key": key, "job": job}}}
    return _INSERT, {"id": f"evt_{secrets.token_hex(12)}", "type": kind, "body": json.dumps(document)}


class EventSender(threading.Thread):
    """Sends stored events to one URL, at least once and in no guaranteed order."""

    def __init__(self, store: Store, *, url: str, secret: str) -> None:
        super().__init__(name="event-sender", daemon=True)
        self._store = store
        self._url = urlsplit(url)
        self._key = base64.b64decode(secret.removeprefix("whsec_"))

    def run(self) -> None:
        """Send until the process ends. If it dies between a delivery and its record, the event is sent again."""
        while True:
            for row in self._store.due_events():
                pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(row["tries"], 10))
                self._store.record_delivery(row["id"], is_accepted=self._send(row), pause_seconds=pause)
            self._store.wait_for_event(FIRST_PAUSE_SECONDS)

    def _send(self, row: dict[str, Any]) -> bool:
        """Send the event; return True if the receiver answered 2xx."""
        timestamp, body = int(time.time()), row["body"].encode()
        content = b"%s.%d.%s" % (row["id"].encode(), timestamp, body)
        signature = base64.b64encode(hmac.digest(self._key, content, hashlib.sha256)).decode()
        headers = {
            "Content-Type": "application/json",
            "webhook-id": row["id"],
            "webhook-timestamp": str(timestamp),
            "webhook-signature": f"v1,{signature}",
        }
        connection = http.client.HTTPConnection(self._url.hostname or "", self._url.port, timeout=RESPONSE_SECONDS)
        try:
            connection.request("POST", self._url.path, body, headers)
            return connection.getresponse().status // 100 == 2  # noqa: PLR2004 - success
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
