"""One live job for each business intent that an operation names (`Operation.identity`)."""

from __future__ import annotations

import pytest

from idempotency.models import IdempotencyRecord
from jobs.models import Job
from operations.payments.charge import ChargePayment
from tests.support.client import accepted, charge, post, problem

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _intent(monkeypatch):
    """A charge's business intent is its source."""
    monkeypatch.setattr(ChargePayment, "identity", lambda _operation, params: params["source"])


def test_a_second_job_of_one_intent_is_refused_until_the_first_has_failed_or_been_canceled(api):
    first = accepted(post(api, key="a"))
    document = problem(post(api, key="b"), 409, "duplicate-operation")
    assert document["resource"] == first["links"]["self"]
    # Nothing is stored: the key stays free, and a retry of the first request is replayed.
    assert IdempotencyRecord.objects.count() == Job.objects.count() == 1
    assert accepted(post(api, key="a"))["id"] == first["id"]
    accepted(post(api, charge(source="tok_other"), key="c"))
    assert post(api, b"", key=None, path=first["links"]["cancel"]).json()["state"] == "canceled"
    second = accepted(post(api, key="b"))
    redriven = post(api, b"", key=None, path=f"/v1/jobs/{first['id']}/redrive")
    problem(redriven, 409, "duplicate-operation")
    assert api.get(first["links"]["self"]).json()["state"] == "canceled"
    assert second["id"] != first["id"]
