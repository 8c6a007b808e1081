"""Without a sweep, jobs still run; the next sweep finds what was lost meanwhile (I2, I8)."""

from __future__ import annotations

import pytest
import redis
from django.conf import settings
from django.db.models.functions import Now

from jobs.models import Job
from jobs.states import State
from tests.support.promises import messages
from tests.support.stack import POLL_SECONDS, SHORT_LEASE, running_stack
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

UNTOUCHED = ["submit", "claim", "succeed"]
SERVED = [f"order-{number}" for number in range(10)]


@pytest.fixture
def stack(transactional_db, tmp_path):
    with running_stack(tmp_path, **SHORT_LEASE) as stack:
        stack.start_api()
        yield stack


@pytest.mark.parametrize(("there", "away"), [("maintenance", "beat"), ("beat", "maintenance")])
def test_jobs_run_without_sweeps_and_lost_messages_are_published_by_the_next_sweep(stack, ledger, *, there, away):
    stack.start_workers(there)
    stack.start_workers("worker", FAULT_POINT="after_claim:1:kill")
    ledger.charge("abandoned")
    until(lambda: "is reached" in stack.running["worker"].log.read_text(), seconds=60, pause_seconds=POLL_SECONDS)
    for key in SERVED:
        ledger.charge(key)
    succeeded = Job.objects.filter(state=State.SUCCEEDED)
    until(lambda: succeeded.count() == len(SERVED), seconds=60, pause_seconds=POLL_SECONDS)
    until(lambda: not messages(), seconds=30, pause_seconds=POLL_SECONDS)
    stack.kill("worker")
    ledger.charge("lost")
    with redis.Redis.from_url(settings.REDIS_URL) as broker:
        broker.delete("default")
    stack.start_workers("worker")
    abandoned = Job.objects.filter(state=State.RUNNING, lease_expires_at__lt=Now())
    until(abandoned.exists, seconds=60, pause_seconds=POLL_SECONDS)
    assert ledger.history("abandoned") == ["submit", "claim"]
    assert ledger.history("lost") == ["submit"]
    stack.start_workers(away)
    jobs = ledger.settle()
    assert {job["state"] for job in jobs.values()} == {"succeeded"}
    assert ledger.history("abandoned") == ["submit", "claim", "expire", "claim", "succeed"]
    assert {tuple(ledger.history(key)) for key in [*SERVED, "lost"]} == {tuple(UNTOUCHED)}
