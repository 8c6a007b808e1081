"""Jobs of one concurrency key run one at a time and in the order in which they were accepted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from django.db import connection, transaction

from jobs import transitions
from jobs.models import Job
from jobs.payloads import encode_payload
from jobs.services import redrive_job
from jobs.states import State
from tests.support.factories import TenantFactory, claim, make_due, queued_job
from tests.support.row_locks import until_waiting
from tests.support.scenarios import HOUR, ZERO, begin, expire, history, outcomes, write
from tests.support.threads import at_once, at_one_row

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def tenant(transactional_db):
    return TenantFactory()


def queue_up(tenant, count, *, key="account-1", **options):
    """Return this many queued jobs of one key, in their order."""
    return [
        write(queued_job(tenant, **options).id, f"concurrency_key = '{key}', accept_seq = {number}")
        for number in range(1, count + 1)
    ]


def try_to_claim(job):
    return transitions.claim_job(job_id=job.id, worker="w", known_operations=["test.scripted@1"])


def succeed(job):
    return transitions.succeed_job(job_id=job.id, attempt=job.attempt, result=encode_payload(None))


def retry(job, delay=HOUR):
    held = {"job_id": job.id, "attempt": job.attempt}
    return transitions.retry_job(**held, delay=delay, detail="later", cause="test")


def test_only_the_first_job_of_the_queue_can_be_claimed(tenant):
    first, second, third = queue_up(tenant, 3)
    assert [try_to_claim(job) for job in (third, second)] == [None, None]
    held = try_to_claim(first)
    assert held.state == State.RUNNING
    assert try_to_claim(second) is None
    succeed(held)
    assert try_to_claim(third) is None
    assert try_to_claim(second).state == State.RUNNING


def test_a_claim_of_a_blocked_job_charges_no_attempt(tenant):
    _, second = queue_up(tenant, 2)
    try_to_claim(second)
    assert (Job.objects.get(pk=second.id).attempts_left, history(second.id)) == (3, ["submit"])


def test_concurrent_workers_run_the_queue_in_order(tenant):
    jobs = queue_up(tenant, 6)
    order = []

    def work(rival):
        while len(order) < len(jobs):
            for job in jobs[rival:] + jobs[:rival]:
                held = try_to_claim(job)
                if held is not None:
                    others = Job.objects.filter(concurrency_key="account-1", state=State.RUNNING).count()
                    order.append((others, job.accept_seq))
                    succeed(held)

    assert at_once(*[partial(work, rival) for rival in range(4)]) == [None] * 4
    assert order == [(1, number) for number in range(1, 7)]


def test_concurrent_claims_of_the_first_job_claim_it_once_and_no_other(tenant):
    first, second = queue_up(tenant, 2)
    rivals = [partial(try_to_claim, job) for job in (first, first, first)]
    results = at_one_row(first, *rivals)
    assert sum(result is not None for result in results) == 1
    assert try_to_claim(second) is None


def test_of_two_jobs_that_both_seem_unblocked_one_runs(tenant):
    """No statement sees an uncommitted claim. The unique index makes the second claim wait, and refuses it."""
    first, second = queue_up(tenant, 2)
    write(second.id, "accept_seq = 1")
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            assert try_to_claim(first) is not None
            rival = pool.submit(_claim_and_close, second)
            until_waiting(1)
        assert rival.result(20) is None
    assert (history(second.id), outcomes(second.id)) == (["submit"], [])


def test_a_claim_succeeds_after_its_rival_is_rolled_back(tenant):
    first, second = queue_up(tenant, 2)
    write(second.id, "accept_seq = 1")
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            assert try_to_claim(first) is not None
            rival = pool.submit(_claim_and_close, second)
            until_waiting(1)
            transaction.set_rollback(True)
        assert rival.result(20).state == State.RUNNING


def _claim_and_close(job):
    try:
        return try_to_claim(job)
    finally:
        connection.close()


def test_a_job_that_backs_off_keeps_its_place(tenant):
    first, second = queue_up(tenant, 2)
    retry(try_to_claim(first))
    assert try_to_claim(second) is None
    assert try_to_claim(make_due(first.id)).attempt == 2


def test_a_job_that_was_never_due_blocks_no_other(tenant):
    first, second = queue_up(tenant, 2)
    write(first.id, "run_at = clock_timestamp() + interval '1 hour'")
    held = try_to_claim(second)
    assert held.state == State.RUNNING
    assert try_to_claim(make_due(first.id)) is None
    succeed(held)
    assert try_to_claim(first).state == State.RUNNING


def test_an_unknown_job_blocks_no_other(tenant):
    first, second = queue_up(tenant, 2)
    held = try_to_claim(first)
    begin(held, "charge")
    transitions.stop_as_unknown(job_id=first.id, attempt=1, detail="who knows")
    assert try_to_claim(second).state == State.RUNNING


def test_a_redriven_job_goes_to_the_end_of_the_queue(tenant):
    first, second = queue_up(tenant, 2)
    transitions.fail_job(job_id=first.id, attempt=try_to_claim(first).attempt, detail="no", cause="no")
    write(second.id, "accept_seq = 0")
    again = redrive_job(tenant_id=tenant.id, mode="test", job_id=first.id)
    assert again.accept_seq > 0
    assert try_to_claim(first) is None
    succeed(try_to_claim(second))
    assert try_to_claim(first).attempt == 2


def test_a_job_whose_worker_died_runs_next(tenant):
    first, second = queue_up(tenant, 2)
    expire(try_to_claim(first), delay=ZERO)
    assert try_to_claim(second) is None
    assert claim(first.id).attempt == 2
    assert outcomes(first.id) == ["expire", None]


@pytest.mark.parametrize("other", ["key", "tenant", "mode"])
def test_jobs_of_another_key_tenant_or_mode_run_concurrently(tenant, other):
    (first,) = queue_up(tenant, 1)
    beside = {
        "key": lambda: queue_up(tenant, 1, key="account-2"),
        "tenant": lambda: queue_up(TenantFactory(), 1),
        "mode": lambda: queue_up(tenant, 1, mode="live"),
    }[other]()
    assert try_to_claim(first) is not None
    assert try_to_claim(beside[0]) is not None
