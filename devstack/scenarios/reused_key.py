"""Scenario: one key for two different requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devstack.demo_client import Counts, Result, problems
from devstack.http_client import CONFLICT

if TYPE_CHECKING:
    from devstack.demo_client import DemoClient


def reused_key(client: DemoClient) -> Result:
    """The same key with another body is refused, and the response names the members that differ."""
    client.print("(c) The same key with another body")
    key, before = client.new_key("reused"), client.charges()
    first = client.post(client.charge_body(1999), key)
    client.print(f"    amount 1999 under {key}: {first.status}")
    second = client.post(client.charge_body(2999), key)
    problem = second.document
    client.print(f"    amount 2999 under the same key: {second.status} {problem.get('code')}")
    client.print_more(f"    detail:   {problem.get('detail')}")
    client.print_more(f"    mismatch: {', '.join(problem.get('mismatch') or ['(none)'])}")
    state = client.final_state(first)
    replays = int(first.is_replay) + int(second.is_replay)
    counts = client.count(key, requests=2, replays=replays, charges_before=before)
    client.print(f"    the first job {state}; charges at the provider: {counts.charges}")
    is_refused = (second.status, problem.get("code")) == (CONFLICT, "idempotency-key-reused")
    found = problems(
        (state == "succeeded", f"the job ended {state}"),
        (is_refused, f"answered {second.status} {problem.get('code')}"),
    )
    return Result("(c) key reused, other body", Counts(2, 1, 1, 0), counts, found)
