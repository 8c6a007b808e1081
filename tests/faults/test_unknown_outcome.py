"""A crash between an effect and its record, past the key window: the downstream is asked if possible, else an operator (I1)."""

from __future__ import annotations

import signal

import pytest
from django.conf import settings

from tests.support.factories import TenantFactory, new_api_key
from tests.support.promises import Ledger
from tests.support.stack import POLL_SECONDS, SHORT_LEASE, Caller, running_stack
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

OPERATIONS = [*settings.OPERATIONS, "tests.support.operations.BlindCharge", "tests.support.operations.AskingCharge"]
ENV = {**SHORT_LEASE, "OPERATIONS": ",".join(OPERATIONS), "EFFECT_RECONCILE_AFTER_SECONDS": "1"}
KEY = "order-1"
TAKEN, NOT_TAKEN = "after_effect", "before_effect"


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unknown")
    with django_db_blocker.unblock(), running_stack(folder, **ENV) as stack:
        stack.start_workers("maintenance", "beat")
        stack.start_api()
        yield stack


@pytest.fixture
def caller(stack, transactional_db):
    """Return a client whose API key may also resolve."""
    caller = Caller(stack.urls["api"], new_api_key(TenantFactory(), is_admin=True))
    with caller.http:
        yield caller


@pytest.fixture
def crashed(stack, caller):
    """Return a function that submits a charge to a worker that dies at this point."""

    def submit(operation, point, max_attempts):
        stack.start_workers("doomed", FAULT_POINT=f"{point}:1:kill")
        ledger = Ledger(caller, stack, operation=operation, max_attempts=max_attempts)
        ledger.charge(KEY)
        return ledger

    yield submit
    stack.kill("doomed")


def resolve(caller, job, verdict, then, **more):
    verdict_data = {"step": "charge", "verdict": verdict, "then": then, "note": "Asked the bank.", **more}
    return caller.http.post(f"/v1/jobs/{job['id']}/resolve", json=verdict_data)


def test_a_charge_that_cannot_be_reconciled_ends_unknown(stack, caller, crashed):
    ledger = crashed("test.blind_charge", TAKEN, 5)
    job = ledger.settle(in_doubt=[KEY])[KEY]
    assert ledger.history(KEY) == ["submit", "claim", "expire", "claim", "doubt"]
    assert job["error"]["code"] == "outcome-unknown"
    assert [effect["state"] for effect in job["effects"]] == ["started"]
    [charge] = stack.provider.charges(f"semel-{job['id']}-charge-1")
    # An operator looks it up and resolves the job.
    result = {"charge_id": charge["id"]}
    resolved = resolve(caller, job, "done", "succeed", result=result)
    assert (resolved.status_code, resolved.json()["state"]) == (200, "succeeded")
    assert ledger.settle()[KEY]["result"] == result
    assert ledger.effects(KEY) == ["charged"]


def test_a_late_response_of_a_stale_worker_is_recorded_as_an_event(stack, caller, frozen_at):
    ledger = Ledger(caller, stack, operation="test.blind_charge")
    ledger.charge(KEY)
    frozen_at("stale", TAKEN)
    stack.start_workers("worker")
    [job] = ledger.caller.when_ended(1, seconds=60, stack=stack, in_doubt=1)
    stack.signal("stale", signal.SIGCONT)
    until(lambda: ledger.history(KEY)[-1] == "late-effect", seconds=30, pause_seconds=POLL_SECONDS)
    assert ledger.settle(in_doubt=[KEY])[KEY] == job
    [charge] = stack.provider.charges(f"semel-{job['id']}-charge-1")
    [*_, late] = caller.http.get(f"/v1/jobs/{job['id']}/events").json()["data"]
    assert (late["attempt"], late["data"]["outcome"]) == (1, "done")
    assert charge["id"] in late["data"]["result"]
    assert resolve(caller, job, "done", "succeed", result={"charge_id": charge["id"]}).status_code == 200
    assert ledger.settle()[KEY]["state"] == "succeeded"
    stack.kill("worker")


def test_a_charge_resolved_as_not_done_is_made_by_the_next_attempt(caller, crashed):
    ledger = crashed("test.blind_charge", NOT_TAKEN, 5)
    job = ledger.settle(in_doubt=[KEY])[KEY]
    assert ledger.effects(KEY) == []
    assert resolve(caller, job, "not_done", "queue").status_code == 200
    assert ledger.settle()[KEY]["state"] == "succeeded"
    assert ledger.history(KEY) == [*["submit", "claim", "expire", "claim", "doubt"], *["resolve", "claim", "succeed"]]


def test_with_no_attempts_left_the_job_is_reconciled_and_gets_the_downstreams_result(crashed):
    ledger = crashed("test.asking_charge", TAKEN, 1)
    assert ledger.settle()[KEY]["state"] == "succeeded"
    assert ledger.history(KEY) == ["submit", "claim", "expire", "claim", "succeed"]
    assert ledger.effects(KEY) == ["charged"]


def test_with_no_attempts_left_a_charge_that_was_not_done_waits_for_a_redrive(caller, crashed):
    ledger = crashed("test.asking_charge", NOT_TAKEN, 1)
    job = ledger.settle()[KEY]
    # An early answer proves nothing: the request may be under way for its time-out and a margin.
    assert ledger.history(KEY)[:4] == ["submit", "claim", "expire", "claim"]
    assert ledger.history(KEY)[-1] == "fail"
    assert (job["state"], job["error"]["code"]) == ("failed", "attempts-exhausted")
    assert caller.http.post(f"/v1/jobs/{job['id']}/redrive").status_code == 200
    assert ledger.settle()[KEY]["state"] == "succeeded"
