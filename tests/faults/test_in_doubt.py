"""A crash between an effect and its record where the downstream forgets keys: it is asked if it can be, else a person is (I1)."""

from __future__ import annotations

import pytest
from django.conf import settings

from tests.factories import TenantFactory, new_api_key
from tests.stack import SHORT_LEASE, Caller, running_stack

pytestmark = pytest.mark.django_db(transaction=True)

OPERATIONS = [*settings.OPERATIONS, "tests.operations.BlindCharge", "tests.operations.AskingCharge"]
ENV = {**SHORT_LEASE, "OPERATIONS": ",".join(OPERATIONS), "EFFECT_RECONCILE_AFTER_SECONDS": "1"}
TAKEN, NOT_TAKEN = "after_effect", "before_effect"


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("doubt")
    with django_db_blocker.unblock(), running_stack(folder, **ENV) as stack:
        stack.start_workers("maintenance", "beat")
        stack.start_api()
        yield stack


@pytest.fixture
def caller(stack, transactional_db):
    """A client whose key may also resolve."""
    caller = Caller(stack.urls["api"], new_api_key(TenantFactory(), is_admin=True))
    with caller.http:
        yield caller


@pytest.fixture
def crashed(stack, caller):
    """Submit the charge to a worker that dies with it at the point; the job once it is in this state."""

    def submit(operation, point, state):
        stack.start_workers("doomed", CRASHPOINT=f"{point}:1:kill")
        answer = caller.charge("order-1", operation=operation)
        assert answer.status_code == 202, answer.text
        return caller.job_when(answer.headers["Location"], state)

    yield submit
    stack.kill("doomed")


def charges(stack, job):
    return stack.provider.charges(f"semel-{job['id']}-charge-1")


def history(caller, job):
    return [event["type"] for event in caller.http.get(job["links"]["events"]).json()["data"]]


def resolve(caller, job, verdict, then, **more):
    said = {"step": "charge", "verdict": verdict, "then": then, "note": "Asked the bank.", **more}
    return caller.http.post(f"/v1/jobs/{job['id']}/resolve", json=said)


def test_nobody_guesses_what_became_of_a_charge_that_cannot_be_asked_about(stack, caller, crashed):
    job = crashed("test.blind_charge", TAKEN, "unknown")
    assert history(caller, job) == ["submit", "claim", "expire", "claim", "doubt"]
    assert job["error"]["code"] == "outcome-unknown"
    assert [effect["state"] for effect in job["effects"]] == ["started"]
    [charge] = charges(stack, job)
    # A person looks it up, and says so.
    result = {"charge_id": charge["id"]}
    resolved = resolve(caller, job, "done", "succeed", result=result)
    assert (resolved.status_code, resolved.json()["state"]) == (200, "succeeded")
    assert resolved.json()["result"] == result
    assert len(charges(stack, job)) == 1


def test_a_charge_that_a_person_finds_not_made_is_made_by_the_next_attempt(stack, caller, crashed):
    job = crashed("test.blind_charge", NOT_TAKEN, "unknown")
    assert charges(stack, job) == []
    assert resolve(caller, job, "not_done", "queue").status_code == 200
    job = caller.job_when(job["links"]["self"], "succeeded")
    assert history(caller, job) == [
        *["submit", "claim", "expire", "claim", "doubt"],
        *["resolve", "claim", "succeed"],
    ]
    [charge] = charges(stack, job)
    assert job["result"]["charge_id"] == charge["id"]


def test_with_no_attempts_left_the_downstream_is_asked_and_its_answer_is_the_result(stack, caller, crashed):
    job = crashed("test.asking_charge", TAKEN, "succeeded")
    assert history(caller, job) == ["submit", "claim", "expire", "claim", "succeed"]
    [charge] = charges(stack, job)
    assert job["result"]["charge_id"] == charge["id"]
    assert stack.provider.outcomes(f"semel-{job['id']}-charge-1") == ["charged"]


def test_with_no_attempts_left_what_was_not_done_stays_undone_until_it_is_redriven(stack, caller, crashed):
    job = crashed("test.asking_charge", NOT_TAKEN, "failed")
    # Asked too early it proves nothing: a request may be under way for as long as its time-out and a while.
    assert history(caller, job)[:4] == ["submit", "claim", "expire", "claim"]
    assert history(caller, job)[-1] == "fail"
    assert job["error"]["code"] == "attempts-exhausted"
    assert charges(stack, job) == []
    assert caller.http.post(f"/v1/jobs/{job['id']}/redrive").status_code == 200
    job = caller.job_when(job["links"]["self"], "succeeded")
    assert len(charges(stack, job)) == 1
