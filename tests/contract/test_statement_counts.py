"""The number of SQL statements and of round trips per request. A change of these numbers must be deliberate."""

from __future__ import annotations

from itertools import count

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from jobs.states import State
from tests.support.client import CHARGE, accepted, post
from tests.support.files import job_with_file
from tests.support.round_trips import round_trips
from tests.support.scenarios import in_state

pytestmark = pytest.mark.django_db(transaction=True)

KEYS = count()


def cost(send):
    """Return the statements of the second request, and its round trips: the first reads the API key and prepares them."""
    send()
    with round_trips() as trips, CaptureQueriesContext(connection) as queries:
        response = send()
    assert response.status_code < 400, response.content
    return [query["sql"].split()[0] for query in queries], trips.count


def new_key(api, **members):
    return accepted_post(api, {**CHARGE, **members}, key=f"key-{next(KEYS)}")


def accepted_post(api, *arguments, **options):
    response = post(api, *arguments, **options)
    accepted(response)
    return response


def test_a_first_use_costs_two_round_trips(api):
    # The look-up; the record with its response, the job and its event.
    assert cost(lambda: new_key(api)) == (["SELECT", "WITH"], 2)


def test_a_first_use_with_a_concurrency_key_needs_a_transaction(api):
    # The look-up; BEGIN; the bounded reservation in one round trip; the lock on the concurrency queue; job and event; the
    # stored response; COMMIT.
    statements, trips = cost(lambda: new_key(api, concurrency_key="c"))
    assert statements == ["SELECT", "BEGIN", "SELECT", "INSERT", "SET", "SET", "SELECT", "WITH", "UPDATE", "COMMIT"]
    assert trips == 7


def test_a_replay_costs_one_round_trip(api):
    assert cost(lambda: post(api)) == (["SELECT"], 1)


def test_the_first_request_of_five_seconds_also_reads_the_api_key(api, advance_credentials):
    assert cost(lambda: advance_credentials(5) or post(api)) == (["SELECT", "SELECT"], 2)


@pytest.mark.parametrize(("state", "trips"), [(State.QUEUED, 1), (State.RUNNING, 2), (State.SUCCEEDED, 2)])
def test_reading_a_job_costs_one_round_trip_more_for_what_its_attempts_produced(api, tenant, state, trips):
    job_id = in_state(tenant, state).id
    assert cost(lambda: api.get(f"/v1/jobs/{job_id}"))[1] == trips


def test_the_cost_of_a_list_does_not_depend_on_its_length(api, tenant):
    in_state(tenant, State.SUCCEEDED)
    short = cost(lambda: api.get("/v1/jobs"))
    for _ in range(5):
        in_state(tenant, State.SUCCEEDED)
    # The page; effects and artifacts together.
    assert cost(lambda: api.get("/v1/jobs")) == short == (["WITH", "SELECT", "SELECT"], 2)


def test_reading_a_history_costs_two_round_trips(api):
    job = accepted(post(api))
    assert cost(lambda: api.get(job["links"]["events"])) == (["SELECT", "SELECT"], 2)


def test_a_download_costs_one_round_trip(api, tenant, script, folder):
    job = job_with_file(tenant, script, b"a,b")
    responses = []

    def download():
        responses.append(api.get(f"/v1/jobs/{job.id}/artifacts/report.csv"))
        assert responses[-1].getvalue() == b"a,b"
        return responses[-1]

    assert cost(download) == (["SELECT"], 1)
