"""Many clients at once under one key."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from devstack.demo_client import Figures, Row
from devstack.http_client import CONFLICT, UNAVAILABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from devstack.demo_client import Stage
    from devstack.http_client import Answer

CROWD = 50


def crowd(stage: Stage) -> Row:
    """Many clients send one request under one key at one moment: one job, and the same answer for all."""
    stage.say(f"(b) {CROWD} clients at once, one key")
    key, body, before = stage.new_key("crowd"), stage.charge(4200), stage.charges()
    started = time.monotonic()
    answers, told_to_wait = _all_at_once(lambda: _patient_post(stage, body, key))
    took = time.monotonic() - started
    replays = sum(answer.is_replay for answer in answers)
    different = len({(answer.status, answer.body) for answer in answers})
    stage.say(
        f"    {len(answers)} answers in {took:.2f} s: {len(answers) - replays} first, {replays} replayed"
    )
    stage.say(f"    different answers: {different}; told to wait and repeat: {told_to_wait}")
    state = stage.final_state(answers[0])
    figures = stage.count(key, requests=len(answers), replays=replays, charges_before=before)
    stage.say(f"    the job {state}; charges at the provider: {figures.charges}")
    complaints = [] if state == "succeeded" else [f"the job ended {state}"]
    if different != 1:
        complaints.append(f"{different} different answers")
    return Row(f"(b) {CROWD} at once, one key", Figures(CROWD, 1, 1, CROWD - 1), figures, complaints)


def _patient_post(stage: Stage, body: bytes, key: str) -> tuple[Answer, int]:
    """The answer, and how often we were told to come back: as any good client we do, under the same key."""
    repeats = 0
    while True:
        answer = stage.post(body, key)
        is_busy = (
            answer.status == CONFLICT and answer.document.get("code") == "idempotency-request-in-progress"
        )
        if not (is_busy or answer.status == UNAVAILABLE) or repeats == CROWD:
            return answer, repeats
        repeats += 1
        time.sleep(float(answer.headers.get("Retry-After", "1")))


def _all_at_once(send: Callable[[], tuple[Answer, int]]) -> tuple[list[Answer], int]:
    """Every client's answer and the sum of their repeats; all stand at the line before one starts."""
    line = threading.Barrier(CROWD)
    outcomes: list[tuple[Answer, int]] = []

    def client() -> None:
        line.wait()
        outcomes.append(send())

    threads = [threading.Thread(target=client, daemon=True) for _ in range(CROWD)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [answer for answer, _ in outcomes], sum(repeats for _, repeats in outcomes)
