"""One key for two requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devstack.demo_client import Figures, Row
from devstack.http_client import CONFLICT

if TYPE_CHECKING:
    from devstack.demo_client import Stage


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
    figures = stage.count(key, requests=2, replays=replays, charges_before=before)
    stage.say(f"    the first job {state}; charges at the provider: {figures.charges}")
    complaints = [] if state == "succeeded" else [f"the job ended {state}"]
    if (second.status, problem.get("code")) != (CONFLICT, "idempotency-key-reused"):
        complaints.append(f"answered {second.status} {problem.get('code')}")
    return Row("(c) key reused, other body", Figures(2, 1, 1, 0), figures, complaints)
