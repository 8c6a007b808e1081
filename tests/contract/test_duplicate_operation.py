"""A business intent (`Operation.identity`) has at most one job, not counting failed and canceled jobs."""

from __future__ import annotations

import pytest

from idempotency.models import IdempotencyRecord
from jobs.models import Job
from operations.payments.charge import ChargePayment
from tests.support.client import accepted, charge, post, problem

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _intent(monkeypatch):
    """Make the source of a charge its business intent."""
    monkeypatch.setattr(ChargePayment, "identity", lambda _operation, params: params["source"])


def test_a_second_job_with_the_same_intent_is_refused_until_the_first_is_canceled(api):
    first = accepted(post(api, key="a"))
    document = problem(post(api, key="b"), 409, "duplicate-operation")
    assert document["resource"] == first["links"]["self"]
    # The refusal stores nothing: its key stays free, and a repeat of the first request is still replayed.
    assert IdempotencyRecord.objects.count() == Job.objects.count() == 1
    assert accepted(post(api, key="a"))["id"] == first["id"]
    accepted(post(api, charge(source="tok_other"), key="c"))
    assert post(api, b"", key=None, path=first["links"]["cancel"]).json()["state"] == "canceled"
    second = accepted(post(api, key="b"))
    redriven = post(api, b"", key=None, path=f"/v1/jobs/{first['id']}/redrive")
    problem(redriven, 409, "duplicate-operation")
    assert api.get(first["links"]["self"]).json()["state"] == "canceled"
    assert second["id"] != first["id"]
