"""The answer to a first request gets lost."""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING

from devstack.demo_client import Figures, Row
from devstack.http_client import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from devstack.demo_client import Stage


def lost_answer(stage: Stage) -> Row:
    """A charge whose first answer is thrown away is asked for again, and made once."""
    stage.say("(a) A charge whose first answer is thrown away")
    key, body, before = stage.new_key("lost"), stage.charge(1999), stage.charges()
    _send_and_hang_up(stage, body, key)
    stage.say(f"    sent with Idempotency-Key {key}; the answer came, and nobody read it")
    answer = stage.post(body, key)
    stage.say(
        f"    sent again: {answer.status}, Idempotency-Replayed: {answer.headers.get('Idempotency-Replayed')}"
    )
    state = stage.final_state(answer)
    figures = stage.count(key, requests=2, replays=int(answer.is_replay), charges_before=before)
    stage.say(f"    the job {state}; charges at the provider: {figures.charges}")
    complaints = [] if state == "succeeded" else [f"the job ended {state}"]
    return Row("(a) lost answer, retried", Figures(2, 1, 1, 1), figures, complaints)


def _send_and_hang_up(stage: Stage, body: bytes, key: str) -> None:
    """The server has answered, and its answer is lost: the connection is cut with the bytes unread."""
    head = stage.api.head(
        "POST", "/v1/jobs", {"Idempotency-Key": key, "Content-Type": "application/json"}, len(body)
    )
    with socket.create_connection((stage.api.host, stage.api.port), timeout=TIMEOUT_SECONDS) as connection:
        connection.sendall(head + body)
        # A client cannot know whether its lost request was served; the scene can, and tells the harder story.
        select.select([connection], [], [], TIMEOUT_SECONDS)
