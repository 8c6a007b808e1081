"""A worker that freezes, is overtaken and wakes: its writes change nothing; what it heard from the world is evidence (I4)."""

from __future__ import annotations

import signal

import pytest

from tests.stack import POLL_SECONDS, SHORT_LEASE, START_SECONDS, running_stack
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

OVERTAKEN = ["submit", "claim", "expire", "claim", "succeed"]


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("zombie")
    with django_db_blocker.unblock(), running_stack(folder, **SHORT_LEASE) as stack:
        stack.start_workers("maintenance", "beat")
        stack.start_api()
        yield stack


@pytest.fixture
def frozen_at(stack):
    """Start a worker that freezes at the point; returns once it has, every process of it. All are gone at the end."""
    started = []

    def start(name, point):
        started.append(name)
        stack.start_workers(name, CRASHPOINT=f"{point}:1:stop")
        until(lambda: stack.frozen_children(name), seconds=START_SECONDS, pause_seconds=POLL_SECONDS)
        stack.signal(name, signal.SIGSTOP)

    yield start
    for name in started:
        stack.kill(name)


@pytest.mark.parametrize(
    ("point", "calls", "evidence"),
    [
        # It checks before it sends, and sends nothing.
        ("after_claim", ["charged"], []),
        # It had checked already; only the key that does not change keeps the money safe.
        ("before_effect", ["charged", "replayed"], ["late-effect"]),
        ("after_effect", ["charged", "replayed"], ["late-effect"]),
        ("before_settle", ["charged"], []),
    ],
)
def test_a_zombie_changes_nothing(stack, ledger, frozen_at, *, point, calls, evidence):
    ledger.charge("order-1")
    frozen_at("zombie", point)
    stack.start_workers("worker")
    [job] = ledger.caller.when_ended(1, seconds=60, stack=stack)
    assert (job["state"], job["attempt"]) == ("succeeded", 2)
    stack.signal("zombie", signal.SIGCONT)
    until(
        lambda: ledger.history("order-1")[len(OVERTAKEN) :] == evidence,
        seconds=30,
        pause_seconds=POLL_SECONDS,
    )
    # Its message is acknowledged only when it has come to its end.
    assert ledger.settle()["order-1"] == job
    assert ledger.history("order-1") == [*OVERTAKEN, *evidence]
    assert ledger.effects("order-1") == calls
    stack.kill("worker")


def test_a_zombie_that_wakes_while_its_successor_runs_is_heard_as_a_witness_only(stack, ledger, frozen_at):
    accepted = ledger.charge("order-1")
    frozen_at("zombie", "after_effect")
    [charge] = stack.provider.charges(f"semel-{accepted['id']}-charge-1")
    frozen_at("successor", "after_claim")
    stack.signal("zombie", signal.SIGCONT)
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


def events(ledger, job):
    return ledger.caller.http.get(f"/v1/jobs/{job['id']}/events").json()["data"]
