"""One live job for each business intent under concurrency: `Operation.identity` with real commits."""

from __future__ import annotations

from functools import partial

import pytest
from django.db import transaction
from rest_framework.test import APIClient

from idempotency.models import IdempotencyRecord
from jobs import services, transitions
from jobs.errors import DuplicateOperation
from jobs.models import Job
from jobs.queries.submit import find_job_by_identity
from jobs.states import State
from jobs.submission import Submission, submit_job
from operations.payments.charge import ChargePayment
from tests.support.client import CHARGE, accepted, charge, post, problem
from tests.support.factories import TenantFactory, claim, new_api_key
from tests.support.row_locks import until_waiting
from tests.support.threads import at_once, at_one_row, begin

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def tenant(transactional_db):
    return TenantFactory()


@pytest.fixture
def submit(tenant, monkeypatch):
    """Return a function that makes a request under a key, for a thread of its own. A charge's identity is its source."""
    monkeypatch.setattr(ChargePayment, "identity", lambda _operation, params: params["source"])
    credential = f"Bearer {new_api_key(tenant)}"

    def make(key, body=CHARGE):
        client = APIClient(raise_request_exception=False)
        client.credentials(HTTP_AUTHORIZATION=credential)
        return partial(post, client, body, key=key)

    return make


def failed(answer):
    job = claim(accepted(answer)["id"])
    return transitions.fail_job(job_id=job.id, attempt=job.attempt, detail="no", cause="no")


def failing(job):
    return partial(transitions.fail_job, job_id=job.id, attempt=job.attempt, detail="no", cause="no")


def redriving(job):
    return partial(services.redrive_job, tenant_id=job.tenant_id, mode="test", job_id=job.id)


def live_jobs():
    return Job.objects.exclude(state__in=[State.FAILED, State.CANCELED])


def assert_refused(answers, duplicate):
    """Each response names the duplicate, and nothing was stored."""
    for answer in answers:
        assert problem(answer, 409, "duplicate-operation")["resource"] == f"/v1/jobs/{duplicate}"


def split(answers):
    """Return the accepted and the other responses."""
    return [one for one in answers if one.status_code == 202], [one for one in answers if one.status_code != 202]


def test_of_many_requests_of_one_intent_under_different_keys_one_is_accepted(submit):
    (winner,), others = split(at_once(*[submit(f"k-{number}") for number in range(8)]))
    assert_refused(others, accepted(winner)["id"])
    assert Job.objects.count() == IdempotencyRecord.objects.count() == 1


def test_many_intents_at_once_are_accepted_once_each_whatever_their_order(submit):
    def send_all(part, order):
        return [submit(f"k-{part}-{number}", charge(source=f"tok_{number}"))() for number in order]

    up, down = range(5), range(4, -1, -1)
    parts = at_once(*[partial(send_all, part, up if part % 2 else down) for part in range(4)])
    won, others = split([answer for part in parts for answer in part])
    assert sorted(accepted(one)["params"]["source"] for one in won) == [f"tok_{number}" for number in up]
    assert {one.status_code for one in others} == {409}
    assert Job.objects.count() == 5


def test_a_request_during_the_failure_of_its_duplicate_waits_and_is_accepted(submit):
    duplicate = claim(accepted(submit("a")())["id"])
    with transaction.atomic():
        failing(duplicate)()
        (answer,) = begin(submit("b"))
        until_waiting(1)
    second = accepted(answer())
    assert second["id"] != str(duplicate.id)
    assert live_jobs().get().idempotency_key == "b"


def test_a_request_during_a_rolled_back_failure_of_its_duplicate_is_refused(submit):
    duplicate = claim(accepted(submit("a")())["id"])
    with transaction.atomic():
        failing(duplicate)()
        (answer,) = begin(submit("b"))
        until_waiting(1)
        transaction.set_rollback(True)
    assert_refused([answer()], duplicate.id)


def test_a_duplicate_that_fails_before_the_look_up_refuses_no_request(submit, monkeypatch):
    duplicate = claim(accepted(submit("a")())["id"])

    def fail_first(job):
        if Job.objects.get(pk=duplicate.id).state == State.RUNNING:
            at_once(failing(duplicate))
        return find_job_by_identity(job)

    monkeypatch.setattr("jobs.submission.find_job_by_identity", fail_first)
    assert accepted(submit("b")())["id"] != str(duplicate.id)


def test_of_many_requests_beside_a_failing_duplicate_at_most_one_is_accepted(submit):
    duplicate = claim(accepted(submit("a")())["id"])
    _, *answers = at_once(failing(duplicate), *[submit(f"k-{number}") for number in range(6)])
    won, others = split(answers)
    assert len(won) <= 1
    assert live_jobs().count() == len(won)
    stands_for_it = {f"/v1/jobs/{job_id}" for job_id in (duplicate.id, *(accepted(one)["id"] for one in won))}
    assert {problem(one, 409, "duplicate-operation")["resource"] for one in others} <= stands_for_it
    assert submit("again")().status_code == (409 if won else 202)


def test_a_redrive_is_refused_while_a_new_duplicate_is_being_accepted(submit):
    job = failed(submit("a")())
    with transaction.atomic():
        submission = Submission(operation=ChargePayment(), params=CHARGE["params"])
        new = submit_job(tenant_id=job.tenant_id, mode="test", submission=submission)
        (outcome,) = begin(redriving(job))
        until_waiting(1)
    with pytest.raises(DuplicateOperation) as refused:
        outcome()
    assert refused.value.resource == new.resource
    assert Job.objects.get(pk=job.id).state == State.FAILED
    assert live_jobs().get().id == new.id


def test_a_redrive_and_new_duplicates_at_once_leave_one_live_job(submit):
    job = failed(submit("a")())
    redriven, *answers = at_once(redriving(job), *[submit(f"k-{number}") for number in range(5)])
    won, others = split(answers)
    live = live_jobs().get()
    if isinstance(redriven, DuplicateOperation):
        assert [accepted(one)["id"] for one in won] == [str(live.id)]
        assert redriven.resource == live.resource
    else:
        assert (won, redriven.id) == ([], live.id)
    assert_refused(others, live.id)


def test_of_failed_duplicates_that_are_redriven_at_once_one_is_queued(submit):
    jobs = [failed(submit(f"k-{number}")()) for number in range(4)]
    results = at_once(*[redriving(job) for job in jobs])
    live = live_jobs().get()
    assert [result.id for result in results if isinstance(result, Job)] == [live.id]
    refused = [result for result in results if isinstance(result, DuplicateOperation)]
    assert [result.resource for result in refused] == [live.resource] * 3


def test_one_request_repeated_at_once_is_never_refused_as_a_duplicate(submit):
    answers = at_once(*[submit("a")] * 5)
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1


def test_redrives_of_one_job_and_a_new_duplicate_never_deadlock(submit):
    job = failed(submit("a")())
    results = at_one_row(job, redriving(job), redriving(job))
    assert sum(isinstance(result, Job) for result in results) == 1
    assert_refused([submit("b")()], job.id)
