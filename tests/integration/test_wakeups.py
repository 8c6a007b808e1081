"""Each event of a job is published on Redis after its commit; the publication is cheap and may fail."""

from __future__ import annotations

import pytest
import redis
from django.db import transaction
from rest_framework.test import APIClient

from broker.circuit_breaker import redis_breaker
from broker.publisher import publisher
from broker.wakeups import CHANNEL, JobChange, decode, encode
from jobs import transitions
from jobs.models import Job, JobEvent
from jobs.payloads import encode_payload
from jobs.queries.events import append_late_effect, decline_cancel, request_cancel
from jobs.services import cancel_job, redrive_job
from jobs.states import State
from tests.support.client import accepted, post
from tests.support.factories import TenantFactory, claim, new_api_key, queued_job
from tests.support.scenarios import in_state
from workers.executor import execute_job

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def owner(transactional_db):
    return TenantFactory()


@pytest.fixture
def published(settings):
    """Return a function that returns the changes published since its last call."""
    with redis.Redis.from_url(settings.REDIS_URL) as client, client.pubsub() as pubsub:
        pubsub.subscribe(CHANNEL)
        assert pubsub.get_message(timeout=5)["type"] == "subscribe"

        def read():
            # Everything published before this marker is delivered before it.
            assert publisher.flush(seconds=20.0)
            client.publish(CHANNEL, "marker")
            changes = []
            while (message := pubsub.get_message(timeout=5))["data"] != b"marker":
                changes.extend(decode(message["data"]))
            # All databases share the channel: leave out the changes of other tests.
            ours = set(Job.objects.filter(pk__in=[change.id for change in changes]).values_list("pk", flat=True))
            return [change for change in changes if change.id in ours]

        yield read


def seqs(published, job_id):
    return [change.seq for change in published() if change.id == job_id]


def event_numbers(job_id):
    return list(JobEvent.objects.filter(job_id=job_id).order_by("seq").values_list("seq", flat=True))


def test_the_claim_and_the_end_of_a_job_are_published(owner, script, published):
    seen = []
    job = queued_job(owner, script=script(lambda job: seen.extend(seqs(published, job.id))))
    assert seqs(published, job.id) == []
    execute_job(job.id)
    assert seen == [2]
    assert seqs(published, job.id) == [3]


def test_of_several_changes_of_a_job_the_last_is_published(owner, published):
    jobs = [queued_job(owner) for _ in range(2)]
    with publisher._changed:  # the publisher takes nothing until all have gathered
        for seq in (2, 4, 3):
            for job in jobs:
                publisher.wake_waiters(JobChange(job.id, seq))
    assert published() == [JobChange(job.id, 4) for job in jobs]


def test_a_submission_and_a_replay_publish_no_wakeup(owner, published):
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {new_api_key(owner)}")
    accepted(post(api))
    accepted(post(api))
    assert published() == []


def test_every_event_but_the_first_is_published(owner, published):
    job = queued_job(owner)
    fence = {"job_id": job.id, "attempt": 1}
    changes = [
        lambda: claim(job.id),
        lambda: request_cancel(job_id=job.id),
        lambda: request_cancel(job_id=job.id),
        lambda: decline_cancel(**fence, detail="too late"),
        lambda: decline_cancel(**fence, detail="too late"),
        lambda: append_late_effect(**fence, data={}),
        lambda: transitions.fail_job(**fence, detail="no", cause="no"),
        lambda: redrive_job(tenant_id=owner.id, mode="test", job_id=job.id),
        lambda: cancel_job(tenant_id=owner.id, mode="test", job_id=job.id),
    ]
    seen = []
    for change in changes:
        change()
        seen += seqs(published, job.id)
    assert seen == event_numbers(job.id)[1:] == [2, 3, 4, 5, 6, 7, 8]


def test_a_wakeup_is_published_only_after_the_commit(owner, published):
    job = in_state(owner, State.RUNNING)
    published()
    with transaction.atomic():
        transitions.succeed_job(job_id=job.id, attempt=job.attempt, result=encode_payload(1))
        assert published() == []
        transaction.set_rollback(True)
    assert published() == []
    with transaction.atomic():
        transitions.succeed_job(job_id=job.id, attempt=job.attempt, result=encode_payload(1))
    assert published() == [JobChange(job.id, Job.objects.get(pk=job.id).event_seq)]


def test_without_redis_a_job_ends_and_the_breaker_opens(owner, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    job = claim(queued_job(owner).id)
    assert transitions.succeed_job(job_id=job.id, attempt=1, result=encode_payload(1)).state == State.SUCCEEDED
    for _ in range(settings.BREAKER_FAILURES):
        publisher.wake_waiters(JobChange(job.id, 3))
        assert publisher.flush(seconds=20.0)
    assert not redis_breaker.allows()


@pytest.mark.parametrize("message", [b"", b"x", b":", b"\xff:1", b"0199:1", encode([JobChange("x", 1)]).encode()])
def test_a_foreign_message_is_ignored(message):
    assert list(decode(message)) == []


def test_changes_survive_encoding_and_decoding(owner):
    changes = [JobChange(queued_job(owner).id, number) for number in (7, 1, 12)]
    message = encode(changes).encode()
    assert list(decode(message)) == changes
    assert list(decode(b"x " + message + b" y:1")) == changes
