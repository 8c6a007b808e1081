"""A worker that freezes and is overtaken: its later writes change nothing; what it learned is kept as evidence (I4)."""

from __future__ import annotations

import signal

import pytest
from django.conf import settings

from tests.support.promises import assert_nothing_is_left_over
from tests.support.stack import POLL_SECONDS, SHORT_LEASE, running_stack
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

OVERTAKEN = ["submit", "claim", "expire", "claim", "succeed"]


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stale")
    operations = ",".join([*settings.OPERATIONS, "tests.support.operations.Mark"])
    with django_db_blocker.unblock(), running_stack(folder, **SHORT_LEASE, OPERATIONS=operations) as stack:
        stack.start_workers("maintenance", "beat")
        stack.start_api()
        yield stack


@pytest.mark.parametrize(
    ("point", "calls", "evidence"),
    [
        # It checks before it sends, and sends nothing.
        ("after_claim", ["charged"], []),
        # It had checked already; only the unchanging downstream key prevents a second charge.
        ("before_effect", ["charged", "replayed"], ["late-effect"]),
        ("after_effect", ["charged", "replayed"], ["late-effect"]),
        ("before_settle", ["charged"], []),
    ],
)
def test_a_stale_worker_changes_nothing(stack, ledger, frozen_at, *, point, calls, evidence):
    ledger.charge("order-1")
    frozen_at("stale", point)
    stack.start_workers("worker")
    [job] = ledger.caller.when_ended(1, seconds=60, stack=stack)
    assert (job["state"], job["attempt"]) == ("succeeded", 2)
    stack.signal("stale", signal.SIGCONT)
    until(lambda: ledger.history("order-1")[len(OVERTAKEN) :] == evidence, seconds=30, pause_seconds=POLL_SECONDS)
    # Its message is acknowledged only when its attempt has ended.
    assert ledger.settle()["order-1"] == job
    assert ledger.history("order-1") == [*OVERTAKEN, *evidence]
    assert ledger.effects("order-1") == calls
    stack.kill("worker")


def test_a_stale_worker_that_continues_while_its_successor_runs_leaves_evidence_only(stack, ledger, frozen_at):
    accepted = ledger.charge("order-1")
    frozen_at("stale", "after_effect")
    [charge] = stack.provider.charges(f"semel-{accepted['id']}-charge-1")
    frozen_at("successor", "after_claim")
    stack.signal("stale", signal.SIGCONT)
    until(lambda: "late-effect" in ledger.history("order-1"), seconds=30, pause_seconds=POLL_SECONDS)
    [job] = ledger.caller.jobs()
    assert (job["attempt"], job["result"]) == (2, None)
    assert [effect["state"] for effect in job["effects"]] == ["started"]
    [late] = [event for event in events(ledger, job) if event["type"] == "late-effect"]
    assert (late["attempt"], late["data"]["step"], late["data"]["outcome"]) == (1, "charge", "done")
    assert charge["id"] in late["data"]["result"]
    stack.signal("successor", signal.SIGCONT)
    job = ledger.settle()["order-1"]
    assert (job["state"], job["result"]["charge_id"]) == ("succeeded", charge["id"])


def test_a_stale_worker_without_an_effect_is_stopped_by_its_next_check(stack, ledger, frozen_at, tmp_path):
    marks = tmp_path / "marks"
    body = {"operation": "test.mark", "params": {"path": str(marks)}}
    address = ledger.caller.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": "mark"}).headers["Location"]
    frozen_at("stale", "after_claim")
    stack.start_workers("worker")
    assert ledger.caller.job_when(address, "succeeded")["attempt"] == 2
    stack.signal("stale", signal.SIGCONT)
    # Its message is acknowledged when its attempt has ended.
    assert_nothing_is_left_over()
    assert marks.read_text() == "2\n"
    stack.kill("worker")


def events(ledger, job):
    return ledger.caller.http.get(f"/v1/jobs/{job['id']}/events").json()["data"]
