"""Scenario: many clients at once under one key."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from devstack.demo_client import Counts, Result, problems
from devstack.http_client import CONFLICT, UNAVAILABLE

if TYPE_CHECKING:
    from devstack.demo_client import DemoClient
    from devstack.http_client import Answer

CLIENTS = 50


def crowd(client: DemoClient) -> Result:
    """Many clients send one request under one key at the same moment: one job, and the same answer for all."""
    client.print(f"(b) {CLIENTS} clients at once, one key")
    key, body, before = client.new_key("crowd"), client.charge_body(4200), client.charges()
    started_at = time.monotonic()
    answers, repeats = _post_all_at_once(client, body, key)
    took = time.monotonic() - started_at
    replays = sum(answer.is_replay for answer in answers)
    different = len({(answer.status, answer.body) for answer in answers})
    client.print(f"    {len(answers)} answers in {took:.2f} s: {len(answers) - replays} first, {replays} replayed")
    client.print(f"    different answers: {different}; requests repeated after Retry-After: {repeats}")
    state = client.final_state(answers[0])
    counts = client.count(key, requests=len(answers), replays=replays, charges_before=before)
    client.print(f"    the job {state}; charges at the provider: {counts.charges}")
    found = problems(
        (state == "succeeded", f"the job ended {state}"), (different == 1, f"{different} different answers")
    )
    return Result(f"(b) {CLIENTS} at once, one key", Counts(CLIENTS, 1, 1, CLIENTS - 1), counts, found)


def _post_all_at_once(client: DemoClient, body: bytes, key: str) -> tuple[list[Answer], int]:
    """Return every client's answer and the sum of their repeats; no client sends before all are ready."""
    barrier = threading.Barrier(CLIENTS)
    outcomes: list[tuple[Answer, int]] = []

    def post() -> None:
        barrier.wait()
        outcomes.append(_post_patiently(client, body, key))

    threads = [threading.Thread(target=post, daemon=True) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [answer for answer, _ in outcomes], sum(repeats for _, repeats in outcomes)


def _post_patiently(client: DemoClient, body: bytes, key: str) -> tuple[Answer, int]:
    """Repeat under the same key after Retry-After, as a good client does. Return the answer and the number of repeats."""
    repeats = 0
    while True:
        answer = client.post(body, key)
        is_busy = answer.status == CONFLICT and answer.document.get("code") == "idempotency-request-in-progress"
        if not (is_busy or answer.status == UNAVAILABLE) or repeats == CLIENTS:
            return answer, repeats
        repeats += 1
        time.sleep(float(answer.headers.get("Retry-After", "1")))
