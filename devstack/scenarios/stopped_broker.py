"""The broker is gone when a client asks, and comes back."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from devstack.broker import is_ready
from devstack.demo_client import Figures, Row
from devstack.demo_settings import instead
from devstack.http_client import ACCEPTED

if TYPE_CHECKING:
    from devstack.demo_client import Stage
    from devstack.http_client import Answer

# The API promises an answer within 1.5 s without its broker; the rest is for a machine that has other things to do.
PROMPT_SECONDS = 5.0
# For how long we see that nothing happens.
WATCH_SECONDS = 1.0
LOOK_SECONDS = 0.1


def stopped_broker(stage: Stage) -> Row:
    """A job that is accepted without a broker waits in PostgreSQL, and runs once the broker is back."""
    stage.say("(e) The broker stopped")
    stage.more(f"    A job that nobody took is published again after {instead('PUBLISH_GRACE_SECONDS')}.")
    key, body, before = stage.new_key("broker"), stage.charge(7300), stage.charges()
    pid = stage.supervisor.running["broker"].identity.pid
    command = stage.supervisor.end("broker", signal.SIGTERM)
    stage.say(f"    Valkey {pid} has ended")
    answer, took = _timed_post(stage, body, key)
    stage.say(f"    sent: {answer.status} after {took:.2f} s")
    again, took_again = _timed_post(stage, body, key)
    stage.say(
        f"    sent again: {again.status} after {took_again:.2f} s,"
        f" Idempotency-Replayed: {again.headers.get('Idempotency-Replayed')}"
    )
    states = _states_seen(stage, answer)
    stage.say(f"    the job, watched for {WATCH_SECONDS:.0f} s: {', '.join(states)}")
    # On its old port and folder: what it knew it knows again, and nobody else needs to be told or started again.
    other = stage.supervisor.start(command)
    stage.supervisor.wait_for({"broker": lambda: is_ready(stage.redis_url)})
    returned_at = time.monotonic()
    stage.say(f"    Valkey {other.identity.pid} is there in its place; nothing else is started again")
    state = stage.final_state(answer)
    waited = time.monotonic() - returned_at
    replays = int(answer.is_replay) + int(again.is_replay)
    figures = stage.count(key, requests=2, replays=replays, charges_before=before)
    stage.say(f"    the job {state} {waited:.1f} s after that; charges at the provider: {figures.charges}")
    complaints = [] if state == "succeeded" else [f"the job ended {state}"]
    if (answer.status, again.status, again.body) != (ACCEPTED, ACCEPTED, answer.body):
        complaints.append(f"answered {answer.status}, then {again.status}")
    if max(took, took_again) > PROMPT_SECONDS:
        complaints.append(f"an answer took {max(took, took_again):.1f} s")
    if states != ["queued"]:
        complaints.append(f"without a broker the job was {', '.join(states)}")
    return Row("(e) broker stopped", Figures(2, 1, 1, 1), figures, complaints)


def _timed_post(stage: Stage, body: bytes, key: str) -> tuple[Answer, float]:
    """The answer, and the seconds that it took."""
    began_at = time.monotonic()
    return stage.post(body, key), time.monotonic() - began_at


def _states_seen(stage: Stage, answer: Answer) -> list[str]:
    """The states in which the job was found, in order, each named once."""
    seen: dict[str, None] = {}
    end = time.monotonic() + WATCH_SECONDS
    while time.monotonic() < end:
        seen[stage.job(answer)["state"]] = None
        time.sleep(LOOK_SECONDS)
    return list(seen)
