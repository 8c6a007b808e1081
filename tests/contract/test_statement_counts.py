"""The number of SQL statements per request. A change of these numbers must be deliberate: each is a round trip."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from jobs.states import State
from tests.support.client import accepted, post
from tests.support.files import job_with_file
from tests.support.scenarios import in_state

# The begin and the end of a transaction are not counted; inside a test's own transaction they are savepoints.
_TRANSACTION_CONTROL = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE")


def statements(send):
    with CaptureQueriesContext(connection) as queries:
        response = send()
    assert response.status_code < 400, response.content
    return [query["sql"] for query in queries if not query["sql"].startswith(_TRANSACTION_CONTROL)]


def test_a_first_use_executes_three_statements(api):
    # The API key; the look-up; record, response, job and event.
    sent = statements(lambda: post(api))
    assert len(sent) == 3, sent


def test_a_replay_executes_two_statements(api):
    post(api)
    sent = statements(lambda: post(api))
    assert len(sent) == 2, sent
    assert all(sql.lstrip().startswith("SELECT") for sql in sent)


@pytest.mark.parametrize(("state", "count"), [(State.QUEUED, 2), (State.RUNNING, 4), (State.SUCCEEDED, 4)])
def test_reading_a_job_executes_one_statement_more_each_for_effects_and_artifacts(api, tenant, state, count):
    job_id = in_state(tenant, state).id
    sent = statements(lambda: api.get(f"/v1/jobs/{job_id}"))
    assert len(sent) == count, sent


def test_the_number_of_statements_of_a_list_does_not_depend_on_its_length(api, tenant):
    in_state(tenant, State.SUCCEEDED)
    short = statements(lambda: api.get("/v1/jobs"))
    for _ in range(5):
        in_state(tenant, State.SUCCEEDED)
    sent = statements(lambda: api.get("/v1/jobs"))
    assert len(sent) == len(short) == 4, sent


def test_reading_a_history_executes_three_statements(api):
    job = accepted(post(api))
    sent = statements(lambda: api.get(job["links"]["events"]))
    assert len(sent) == 3, sent


def test_a_download_executes_two_statements(api, tenant, script, folder):
    # The API key; the artifact of the tenant.
    job = job_with_file(tenant, script, b"a,b")
    responses = []
    sent = statements(lambda: responses.append(api.get(f"/v1/jobs/{job.id}/artifacts/report.csv")) or responses[0])
    assert responses[0].getvalue() == b"a,b"
    assert len(sent) == 2, sent
