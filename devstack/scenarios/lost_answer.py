"""Scenario: the answer to a first request is lost."""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING

from devstack.demo_client import Counts, Result, problems
from devstack.http_client import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from devstack.demo_client import DemoClient


def lost_answer(client: DemoClient) -> Result:
    """A charge whose first answer is lost is requested again, and made once."""
    client.print("(a) A charge whose first answer is lost")
    key, body, before = client.new_key("lost"), client.charge_body(1999), client.charges()
    _send_and_disconnect(client, body, key)
    client.print(f"    sent with Idempotency-Key {key}; the connection was cut before the answer was read")
    answer = client.post(body, key)
    client.print(f"    sent again: {answer.status}, Idempotency-Replayed: {answer.headers.get('Idempotency-Replayed')}")
    state = client.final_state(answer)
    counts = client.count(key, requests=2, replays=int(answer.is_replay), charges_before=before)
    client.print(f"    the job {state}; charges at the provider: {counts.charges}")
    found = problems((state == "succeeded", f"the job ended {state}"))
    return Result("(a) lost answer, retried", Counts(2, 1, 1, 1), counts, found)


def _send_and_disconnect(client: DemoClient, body: bytes, key: str) -> None:
    """Wait until the server has answered, then close the connection with the bytes unread."""
    headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
    head = client.api.head_of("POST", "/v1/jobs", headers, len(body))
    with socket.create_connection((client.api.host, client.api.port), timeout=TIMEOUT_SECONDS) as connection:
        connection.sendall(head + body)
        # A client cannot know whether its lost request was served. Here it certainly was, which is the harder case.
        select.select([connection], [], [], TIMEOUT_SECONDS)
