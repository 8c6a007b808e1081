"""How many statements a request costs: a round trip more is a decision, not an accident."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from jobs.states import State
from tests.support.client import accepted, post
from tests.support.files import job_with_file
from tests.support.scenarios import in_state

# Where a transaction begins and ends is no statement of ours; under a test's own transaction they are savepoints.
_FRAME = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE")


def statements(act):
    with CaptureQueriesContext(connection) as queries:
        response = act()
    assert response.status_code < 400, response.content
    return [query["sql"] for query in queries if not query["sql"].startswith(_FRAME)]


def test_a_first_use_costs_five_statements(api):
    # The API key; the look-up; the reservation; job and event; the stored answer.
    told = statements(lambda: post(api))
    assert len(told) == 5, told


def test_a_replay_costs_two_statements(api):
    post(api)
    told = statements(lambda: post(api))
    assert len(told) == 2, told
    assert all(sql.lstrip().startswith("SELECT") for sql in told)


@pytest.mark.parametrize(("state", "count"), [(State.QUEUED, 2), (State.RUNNING, 4), (State.SUCCEEDED, 4)])
def test_a_job_costs_its_own_statement_and_one_each_for_its_effects_and_artifacts(api, tenant, state, count):
    job_id = in_state(tenant, state).id
    told = statements(lambda: api.get(f"/v1/jobs/{job_id}"))
    assert len(told) == count, told


def test_a_list_costs_the_same_however_long_it_is(api, tenant):
    in_state(tenant, State.SUCCEEDED)
    short = statements(lambda: api.get("/v1/jobs"))
    for _ in range(5):
        in_state(tenant, State.SUCCEEDED)
    told = statements(lambda: api.get("/v1/jobs"))
    assert len(told) == len(short) == 4, told


def test_a_history_costs_three_statements(api):
    job = accepted(post(api))
    told = statements(lambda: api.get(job["links"]["events"]))
    assert len(told) == 3, told


def test_a_download_costs_two_statements(api, tenant, script, folder):
    # The API key; the artifact, which is the tenant's.
    job = job_with_file(tenant, script, b"a,b")
    answers = []
    told = statements(lambda: answers.append(api.get(f"/v1/jobs/{job.id}/artifacts/report.csv")) or answers[0])
    assert answers[0].getvalue() == b"a,b"
    assert len(told) == 2, told
