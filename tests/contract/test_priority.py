"""`priority` of POST /v1/jobs: the queue in which the job waits."""

from __future__ import annotations

import pytest

from jobs.models import Job, Priority
from tests.support.client import CHARGE, accepted, post, problem


@pytest.mark.parametrize("priority", ["high", "default", "low"])
def test_a_job_waits_in_the_queue_of_its_priority(api, priority):
    document = accepted(post(api, {**CHARGE, "priority": priority}))
    job = Job.objects.get()
    assert document["priority"] == priority
    assert (job.queue, Priority(job.priority).name.lower()) == (priority, priority)


def test_a_job_without_a_priority_has_the_default(api):
    assert accepted(post(api))["priority"] == "default"
    assert Job.objects.get().queue == "default"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        *[(value, "invalid_choice") for value in ("urgent", "High", " high", "", 0, 1, True, [], {}, ["high"])],
        (None, "null"),
    ],
)
def test_an_invalid_priority_is_refused(api, value, code):
    document = problem(post(api, {**CHARGE, "priority": value}), 400, "validation-failed")
    assert [(error["pointer"], error["code"]) for error in document["errors"]] == [("/priority", code)]
    assert not Job.objects.exists()


def test_another_priority_under_the_same_key_is_another_request(api):
    body = {**CHARGE, "priority": "high"}
    first = post(api, body)
    assert problem(post(api, CHARGE), 409, "idempotency-key-reused")["mismatch"] == ["/priority"]
    assert problem(post(api, {**CHARGE, "priority": "low"}), 409, "idempotency-key-reused")["mismatch"] == ["/priority"]
    assert post(api, body).content == first.content
