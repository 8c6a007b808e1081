"""Each transition of a job costs one statement, because round trips are most of a job's cost."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jobs import transitions
from jobs.payloads import encode_payload
from jobs.queries.lease import LeaseKey, renew_leases
from jobs.selectors import get_job
from jobs.states import State
from tests.support.downstreams import Downstream, charging
from tests.support.factories import claim, queued_job
from workers.executor import execute_job

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


def test_each_transition_is_one_statement(tenant, django_assert_num_queries):
    with django_assert_num_queries(1):
        job = queued_job(tenant)
    with django_assert_num_queries(1):
        job = claim(job.id)
    with django_assert_num_queries(1):
        renew_leases([LeaseKey(job.id, 1, HOUR)], lease=HOUR)
    with django_assert_num_queries(1):
        transitions.succeed_job(job_id=job.id, attempt=1, result=encode_payload(1), has_concurrency_key=False)
    with django_assert_num_queries(1):
        get_job(tenant_id=tenant.id, mode="test", job_id=job.id)


def test_a_concurrency_key_costs_one_more_statement_where_the_job_enters_and_leaves_its_queue(
    tenant, django_assert_num_queries
):
    with django_assert_num_queries(2):
        job = queued_job(tenant, concurrency_key="a")
    queued_job(tenant, concurrency_key="a")
    with django_assert_num_queries(1):
        claim(job.id)
    with django_assert_num_queries(2):
        transitions.succeed_job(job_id=job.id, attempt=1, result=encode_payload(1))


def test_a_whole_job_without_an_effect_costs_two_statements(tenant, script, django_assert_num_queries):
    job = queued_job(tenant, script=script(lambda _job: None))
    with django_assert_num_queries(2):
        execute_job(job.id)


def test_a_whole_job_with_one_effect_costs_four_statements(tenant, script, django_assert_num_queries):
    job = queued_job(tenant, script=script(charging(Downstream("ok"))))
    with django_assert_num_queries(4):
        assert execute_job(job.id).state == State.SUCCEEDED
