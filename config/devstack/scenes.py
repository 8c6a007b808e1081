"""The demo's scenes: each plays one trouble, counts from outside, and returns its line of the table."""

from __future__ import annotations

import select
import socket
import threading
import time
from typing import TYPE_CHECKING

from config.devstack.client import TIMEOUT_SECONDS
from config.devstack.stage import Figures, Row, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from config.devstack.client import Answer

CROWD = 50
ACCEPTED, CONFLICT, UNAVAILABLE = 202, 409, 503


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
    figures = _count(stage, key, requests=2, replays=int(answer.is_replay), charges_before=before)
    stage.say(f"    the job {state}; charges at the provider: {figures.charges}")
    complaints = [] if state == "succeeded" else [f"the job ended {state}"]
    return Row("(a) lost answer, retried", Figures(2, 1, 1, 1), figures, complaints)


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
    figures = _count(stage, key, requests=len(answers), replays=replays, charges_before=before)
    stage.say(f"    the job {state}; charges at the provider: {figures.charges}")
    complaints = [] if state == "succeeded" else [f"the job ended {state}"]
    if different != 1:
        complaints.append(f"{different} different answers")
    return Row(f"(b) {CROWD} at once, one key", Figures(CROWD, 1, 1, CROWD - 1), figures, complaints)


def reused_key(stage: Stage) -> Row:
    """The same key with another body is refused, and the answer says why."""
    stage.say("(c) The same key with another body")
    key, before = stage.new_key("reused"), stage.charges()
    first = stage.post(stage.charge(1999), key)
    stage.say(f"    1999 under {key}: {first.status}")
    second = stage.post(stage.charge(2999), key)
    problem = second.document
    stage.say(f"    2999 under the same key: {second.status} {problem.get('code')}")
    stage.more(f"    detail:   {problem.get('detail')}")
    stage.more(f"    mismatch: {', '.join(problem.get('mismatch') or ['(not told)'])}")
    state = stage.final_state(first)
    replays = int(first.is_replay) + int(second.is_replay)
    figures = _count(stage, key, requests=2, replays=replays, charges_before=before)
    stage.say(f"    the first job {state}; charges at the provider: {figures.charges}")
    complaints = [] if state == "succeeded" else [f"the job ended {state}"]
    if (second.status, problem.get("code")) != (CONFLICT, "idempotency-key-reused"):
        complaints.append(f"answered {second.status} {problem.get('code')}")
    return Row("(c) key reused, other body", Figures(2, 1, 1, 0), figures, complaints)


SCENES: tuple[Callable[[Stage], Row], ...] = (lost_answer, crowd, reused_key)


def _count(stage: Stage, key: str, *, requests: int, replays: int, charges_before: int) -> Figures:
    return Figures(requests, len(stage.jobs(key)), stage.charges() - charges_before, replays)


def _send_and_hang_up(stage: Stage, body: bytes, key: str) -> None:
    """The server has answered, and its answer is lost: the connection is cut with the bytes unread."""
    head = stage.api.head(
        "POST", "/v1/jobs", {"Idempotency-Key": key, "Content-Type": "application/json"}, len(body)
    )
    with socket.create_connection((stage.api.host, stage.api.port), timeout=TIMEOUT_SECONDS) as connection:
        connection.sendall(head + body)
        # A client cannot know whether its lost request was served; the scene can, and tells the harder story.
        select.select([connection], [], [], TIMEOUT_SECONDS)


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
