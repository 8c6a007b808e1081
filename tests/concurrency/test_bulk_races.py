"""Two workers run a bulk action while a client acts on the same jobs: each job is changed once."""

from __future__ import annotations

from functools import partial

import pytest

from jobs import services, transitions
from jobs.models import BulkAction, Job
from jobs.selectors import JobFilter
from jobs.states import State
from operators.bulk_actions import start_bulk_action
from operators.bulk_worker import run_once
from tests.support.factories import TenantFactory, claimed_job
from tests.support.scenarios import history
from tests.support.threads import at_once

pytestmark = pytest.mark.django_db(transaction=True)


def test_two_workers_and_a_client_redrive_each_job_once(transactional_db):
    tenant = TenantFactory()
    jobs = [claimed_job(tenant) for _ in range(20)]
    for job in jobs:
        transitions.fail_job(job_id=job.id, attempt=1, detail="no", cause="no")
    made = start_bulk_action(
        action=BulkAction.Action.REDRIVE, job_filter=JobFilter(state=State.FAILED), actor="user ada", note="a race"
    )

    def redrive_some():
        outcomes = []
        for job in jobs[::-2]:
            try:
                services.redrive_job(tenant_id=tenant.id, mode="test", job_id=job.id)
                outcomes.append(job.id)
            except services.IllegalTransition:
                continue
        return len(outcomes)

    first, second, mine = at_once(run_once, partial(run_once), redrive_some)
    bulk = BulkAction.objects.get(pk=made.id)
    assert bulk.finished_at is not None
    assert bulk.changed == first.changed + second.changed == 20 - mine
    assert [history(job.id).count("redrive") for job in jobs] == [1] * 20
    assert not Job.objects.exclude(state=State.QUEUED).exists()
