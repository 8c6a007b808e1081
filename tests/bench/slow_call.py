"""The call that every contestant's job makes: plain HTTP on a connection of its own. Standard library only."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 10.0


def call_slow_service(url: str, key: str = "") -> str:
    """Call the slow service and return its answer."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("POST", address.path, body=b"{}", headers={"Idempotency-Key": key})
        return connection.getresponse().read().decode()
    finally:
        connection.close()
