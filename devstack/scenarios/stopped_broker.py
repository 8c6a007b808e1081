"""Scenario: the broker is down when a client sends a job."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from devstack.broker import is_ready
from devstack.demo_client import Counts, Result, problems
from devstack.demo_settings import compared
from devstack.http_client import ACCEPTED

if TYPE_CHECKING:
    from devstack.demo_client import DemoClient
    from devstack.http_client import Answer

# The API promises an answer within 1.5 s without its broker; the rest is for a busy machine.
PROMPT_SECONDS = 5.0
# How long to watch that the job does not run.
WATCH_SECONDS = 1.0
POLL_SECONDS = 0.1


def stopped_broker(client: DemoClient) -> Result:
    """A job that is accepted without a broker waits in PostgreSQL, and runs once the broker is back."""
    client.print("(e) The broker stopped")
    client.print_more(f"    The sweep looks for due jobs every {compared('SWEEP_SECONDS')}.")
    key, body, before = client.new_key("broker"), client.charge_body(7300), client.charges()
    pid = client.supervisor.running["broker"].identity.pid
    command = client.supervisor.end("broker", signal.SIGTERM)
    client.print(f"    Valkey {pid} has ended")
    answer, took = _timed_post(client, body, key)
    client.print(f"    sent: {answer.status} after {took:.2f} s")
    again, took_again = _timed_post(client, body, key)
    client.print(
        f"    sent again: {again.status} after {took_again:.2f} s,"
        f" Idempotency-Replayed: {again.headers.get('Idempotency-Replayed')}"
    )
    states = _states_seen(client, answer)
    client.print(f"    the job, watched for {WATCH_SECONDS:.0f} s: {', '.join(states)}")
    # Started on the same port and folder: it loads its data, and no other process needs a restart.
    restarted = client.supervisor.start(command)
    client.supervisor.wait_for({"broker": lambda: is_ready(client.redis_url)})
    returned_at = time.monotonic()
    client.print(f"    Valkey {restarted.identity.pid} is started; no other process is restarted")
    state = client.final_state(answer)
    waited = time.monotonic() - returned_at
    replays = int(answer.is_replay) + int(again.is_replay)
    counts = client.count(key, requests=2, replays=replays, charges_before=before)
    client.print(f"    the job {state} {waited:.1f} s after that; charges at the provider: {counts.charges}")
    is_accepted = (answer.status, again.status, again.body) == (ACCEPTED, ACCEPTED, answer.body)
    found = problems(
        (state == "succeeded", f"the job ended {state}"),
        (is_accepted, f"answered {answer.status}, then {again.status}"),
        (max(took, took_again) <= PROMPT_SECONDS, f"an answer took {max(took, took_again):.1f} s"),
        (states == ["queued"], f"without a broker the job was {', '.join(states)}"),
    )
    return Result("(e) broker stopped", Counts(2, 1, 1, 1), counts, found)


def _timed_post(client: DemoClient, body: bytes, key: str) -> tuple[Answer, float]:
    started_at = time.monotonic()
    return client.post(body, key), time.monotonic() - started_at


def _states_seen(client: DemoClient, answer: Answer) -> list[str]:
    """Return the distinct states of the job while it is watched, in order."""
    seen: dict[str, None] = {}
    end = time.monotonic() + WATCH_SECONDS
    while time.monotonic() < end:
        seen[client.job(answer)["state"]] = None
        time.sleep(POLL_SECONDS)
    return list(seen)
