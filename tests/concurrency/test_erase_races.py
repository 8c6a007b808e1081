"""An erasure beside reads, redrives and purges of the same job: no copy survives, and nothing deadlocks."""

from __future__ import annotations

from functools import partial

import pytest
from django.db import transaction
from django.db.models import F, Q
from rest_framework.test import APIClient

from idempotency.models import IdempotencyRecord
from idempotency.record_purge import Counts
from idempotency.record_purge import run_once as purge_keys
from idempotency.response_format import decode_response
from jobs import job_purge, transitions
from jobs.errors import IllegalTransition, JobErased, JobNotFound
from jobs.models import Job, JobEvent
from jobs.queries.purge import delete_jobs
from jobs.services import erase_payload, redrive_job
from jobs.states import State
from tests.support.client import accepted, charge, post
from tests.support.factories import TenantFactory, backdate, claim, new_api_key
from tests.support.keyed import LONG_AGO, expire_key
from tests.support.scenarios import history
from tests.support.threads import at_once, at_one_row, in_turn

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "4242-SECRET"
BODY = charge(description=SECRET)


@pytest.fixture
def tenant(transactional_db):
    return TenantFactory()


@pytest.fixture
def new_client(tenant):
    """Make a client for a thread of its own."""
    credential = f"Bearer {new_api_key(tenant)}"

    def make():
        client = APIClient(raise_request_exception=False)
        client.credentials(HTTP_AUTHORIZATION=credential)
        return client

    return make


@pytest.fixture
def failed(new_client):
    """Submit a job that fails and return it."""

    def submit(key="k"):
        job = claim(accepted(post(new_client(), BODY, key=key))["id"])
        return transitions.fail_job(job_id=job.id, attempt=1, detail=SECRET, cause=SECRET)

    return submit


@pytest.fixture
def canceled(new_client):
    """Submit a job, cancel it without a key and under these keys, and return it."""

    def submit(key="k", *keys):
        job_id = accepted(post(new_client(), BODY, key=key))["id"]
        for each in (None, *keys):
            assert send(new_client(), job_id, "cancel", each).status_code == 200
        return Job.objects.get(pk=job_id)

    return submit


def send(client, job_id, name, key):
    return post(client, b"", key=key, path=f"/v1/jobs/{job_id}/{name}")


def erasing(job):
    return partial(erase_payload, tenant_id=job.tenant_id, mode="test", job_id=job.id)


def redriving(job):
    return partial(redrive_job, tenant_id=job.tenant_id, mode="test", job_id=job.id)


def is_erased(job):
    """Return whether the job's params and every stored response that contained them are erased."""
    records = IdempotencyRecord.objects.filter(Q(resource=job.resource) | Q(subject=job.resource))
    stored = [decode_response(bytes(one)).body for one in records.values_list("response", flat=True) if one]
    kept = [Job.objects.get(pk=job.id).params, *stored]
    return not any(SECRET.encode() in bytes(text) for text in kept if text)


def without_key(job):
    IdempotencyRecord.objects.all().delete()
    return job


@pytest.mark.parametrize("prepare", [lambda job: job, without_key], ids=["key there", "key purged"])
def test_a_redrive_that_comes_first_keeps_the_payload(failed, prepare):
    job = prepare(failed())
    redriven, refused = in_turn(job, redriving(job), erasing(job))
    assert redriven.state == State.QUEUED
    assert isinstance(refused, IllegalTransition)
    assert history(job.id)[-1] == "redrive"
    assert SECRET in str(bytes(Job.objects.get(pk=job.id).params))


@pytest.mark.parametrize("prepare", [lambda job: job, without_key], ids=["key there", "key purged"])
def test_a_redrive_that_comes_second_is_refused_and_queues_nothing(failed, prepare):
    job = prepare(failed())
    before = IdempotencyRecord.objects.count()
    erased, refused = in_turn(job, erasing(job), redriving(job))
    assert erased.erased_at is not None
    assert isinstance(refused, JobErased)
    assert history(job.id)[-1] == "payload-erased"
    assert IdempotencyRecord.objects.count() == before


def test_many_erasures_at_once_erase_once(failed):
    job = failed()
    results = at_one_row(without_key(job), *[erasing(job)] * 5)
    assert len({result.erased_at for result in results}) == 1
    assert history(job.id).count("payload-erased") == 1


def test_many_erasures_under_one_key_erase_once(failed, new_client):
    job = failed()
    path = f"/v1/jobs/{job.id}/payload"
    answers = at_once(*[partial(new_client().delete, path) for _ in range(5)])
    assert [answer.status_code for answer in answers] == [200] * 5
    assert len({answer.content for answer in answers}) == 1
    assert history(job.id).count("payload-erased") == 1


def test_the_response_of_a_cancel_in_progress_is_erased_too(canceled, new_client):
    """The cancel has read the job with its params; its record is not committed yet."""
    job = canceled()
    answer, erased = in_turn(job, partial(send, new_client(), job.id, "cancel", "c"), erasing(job))
    assert SECRET in answer.text
    assert erased.erased_at is not None
    assert is_erased(job)
    assert send(new_client(), job.id, "cancel", "c").status_code == 410


def test_the_response_of_a_cancel_that_waited_for_an_erasure_holds_no_payload(canceled, new_client):
    job = canceled()
    _, answer = in_turn(job, erasing(job), partial(send, new_client(), job.id, "cancel", "c"))
    assert (answer.status_code, answer.json()["params"]) == (200, None)
    assert is_erased(job)
    assert send(new_client(), job.id, "cancel", "c").content == answer.content


def test_a_redrive_under_a_key_that_waited_for_an_erasure_is_refused_for_good(failed, new_client):
    job = failed()
    _, answer = in_turn(job, erasing(job), partial(send, new_client(), job.id, "redrive", "r"))
    assert answer.status_code == 410
    again = send(new_client(), job.id, "redrive", "r")
    assert (again.status_code, again.content) == (410, answer.content)
    assert again["Idempotency-Replayed"] == "true"
    assert is_erased(job)


def test_replays_return_the_stored_bytes_until_they_return_payload_erased(canceled, new_client):
    job = canceled("k", "c")

    def repeat(request):
        seen = []
        while not seen or seen[-1].status_code != 410:
            seen.append(request())
            assert len(seen) < 10_000
        return seen

    def first():
        client = new_client()
        return repeat(lambda: post(client, BODY, key="k"))

    def cancel():
        client = new_client()
        return repeat(lambda: send(client, job.id, "cancel", "c"))

    erased, *replays = at_once(erasing(job), first, first, cancel, cancel)
    assert erased.erased_at is not None
    for seen in replays:
        assert len({answer.content for answer in seen[:-1]}) <= 1
        assert {answer.status_code for answer in seen[:-1]} <= {200, 202}
    assert Job.objects.count() == 1
    assert is_erased(job)


def old(job):
    expire_key(job)
    IdempotencyRecord.objects.all().delete()
    return backdate(job.id, finished_at=LONG_AGO)


def test_an_erasure_that_waits_for_the_purge_finds_no_job(failed):
    job = old(failed())
    deleted, outcome = in_turn(job, partial(delete_jobs, [job.id]), erasing(job))
    assert deleted == 1
    assert isinstance(outcome, JobNotFound)


def test_a_purge_skips_a_job_that_is_being_erased(failed):
    job, waiting = old(failed("a")), failed("b")
    expire_key(waiting)
    with transaction.atomic():
        erasing(job)()
        erasing(waiting)()
        jobs, keys = at_once(partial(job_purge.run_once, 10), partial(purge_keys, 10))
    assert (jobs, keys) == (Counts(), Counts())
    assert (job_purge.run_once(10), purge_keys(10)) == (Counts(deleted=1), Counts(deleted=1))


def test_erasures_redrives_cancels_and_take_overs_at_once_never_deadlock(canceled, new_client):
    """Each cancel takes over an expired key: it locks the record first and the job last."""
    jobs = [canceled(f"k-{number}", f"c-{number}", f"d-{number}") for number in range(6)]
    IdempotencyRecord.objects.filter(subject__isnull=False).update(
        created_at=F("created_at") - LONG_AGO, expires_at=F("expires_at") - LONG_AGO
    )

    def each(action, order):
        return [action(number, jobs[number]) for number in order]

    def erase(_number, job):
        return new_client().delete(f"/v1/jobs/{job.id}/payload").status_code

    def redrive(number, job):
        return send(new_client(), job.id, "redrive", f"r-{number}").status_code

    def cancel(name, number, job):
        return send(new_client(), job.id, "cancel", f"{name}-{number}").status_code

    up, down = range(6), range(5, -1, -1)
    erased, erased_too, redriven, *canceled_again = at_once(
        partial(each, erase, up),
        partial(each, erase, down),
        partial(each, redrive, up),
        partial(each, partial(cancel, "c"), up),
        partial(each, partial(cancel, "d"), down),
    )
    for codes in (erased, erased_too, redriven, *canceled_again):
        assert set(codes) <= {200, 409, 410}, codes
    for number, job in enumerate(jobs):
        types = JobEvent.objects.filter(job_id=job.id).values_list("type", flat=True)
        if "payload-erased" in types:
            assert is_erased(job)
            assert send(new_client(), job.id, "redrive", f"again-{number}").status_code in (409, 410)
