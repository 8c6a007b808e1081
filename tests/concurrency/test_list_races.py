"""Pages are correct while jobs arrive and change state: each existing job is listed once, in order."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from jobs.selectors import JobFilter, list_jobs
from jobs.services import cancel_job
from jobs.states import State
from tests.support.factories import TenantFactory, claim, queued_job
from tests.support.threads import TIMEOUT_SECONDS

pytestmark = pytest.mark.django_db(transaction=True)


def pages(tenant, wanted, *, until):
    """Return every job of the list, page by page."""
    seen, before = [], None
    while page := list_jobs(tenant_id=tenant.id, mode="test", job_filter=wanted, before=before, limit=3).rows:
        seen += page
        before = page[-1].id
        until.wait(TIMEOUT_SECONDS)  # a change between any two pages
        until.clear()
    return seen


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"operation": "test.scripted"},
        {"state": State.QUEUED},
        {"state": State.QUEUED, "operation": "test.scripted"},
    ],
    ids=["all", "by operation", "by state", "by both"],
)
def test_pages_hold_each_existing_job_once_and_in_order(wanted):
    tenant = TenantFactory()
    jobs = [queued_job(tenant) for _ in range(18)]
    # Every second job changes its state twice while the list is read, from the oldest to the newest.
    changing, staying = jobs[::2], jobs[1::2]
    changed, is_over = threading.Event(), threading.Event()

    def change():
        try:
            while not is_over.is_set():
                queued_job(tenant)
                if changing:
                    job = changing.pop(0)
                    claim(job.id)
                    cancel_job(tenant_id=tenant.id, mode="test", job_id=job.id)
                changed.set()
        finally:
            changed.set()
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(change)
        try:
            seen = [job.id for job in pages(tenant, JobFilter(**wanted), until=changed)]
        finally:
            is_over.set()
        writing.result(TIMEOUT_SECONDS)
    assert seen == sorted(set(seen), reverse=True)
    assert {job.id for job in staying} <= set(seen)
    if "state" not in wanted:
        assert {job.id for job in jobs} <= set(seen)
