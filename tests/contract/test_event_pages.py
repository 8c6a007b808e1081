"""GET /v1/jobs/{id}/events returns a job's history in pages."""

from __future__ import annotations

import re

import pytest
from django.db import connection

from api.forms import DEFAULT_EVENTS, MAX_EVENTS
from jobs.queries.events import append_late_effect
from tests.support.client import problem
from tests.support.factories import queued_job


@pytest.fixture
def path(tenant):
    job = queued_job(tenant)
    return f"/v1/jobs/{job.id}/events"


@pytest.fixture
def long_path(path):
    """Return the path of a job with 600 events."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO job_event (job_id, seq, type, attempt, data, created_at)"
            " SELECT id, seq, 'claim', 1, '{}', now() FROM job, generate_series(2, 600) AS seq"
        )
        cursor.execute("UPDATE job SET event_seq = 600")
    return path


def read(api, address):
    response = api.get(address)
    assert response.status_code == 200, response.content
    return response, [event["seq"] for event in response.json()["data"]]


def test_a_short_history_is_one_page(api, path):
    response, seqs = read(api, path)
    assert (seqs, response.json()["next_after"]) == ([1], None)
    assert "Link" not in response


def test_the_first_page_of_a_long_history_has_the_default_size(api, long_path):
    response, seqs = read(api, long_path)
    assert seqs == [*range(1, DEFAULT_EVENTS + 1)]
    assert response.json()["next_after"] == DEFAULT_EVENTS


@pytest.mark.parametrize("limit", [1, 250, MAX_EVENTS])
def test_the_client_can_set_the_page_size(api, long_path, limit):
    _, seqs = read(api, f"{long_path}?limit={limit}")
    assert seqs == [*range(1, limit + 1)]


def test_following_the_link_header_returns_each_event_once(api, long_path):
    address, seen = f"{long_path}?limit=150&after=7", []
    while address:
        response, seqs = read(api, address)
        seen += seqs
        match = re.fullmatch(r'<http://testserver(\S+)>; rel="next"', response.get("Link", ""))
        address = match and match[1]
        if match:
            assert f"after={response.json()['next_after']}" in address
            assert "limit=150" in address
    assert seen == [*range(8, 601)]


def test_a_full_last_page_has_no_next_page(api, long_path):
    response, seqs = read(api, f"{long_path}?limit=100&after=500")
    assert (len(seqs), response.json()["next_after"]) == (100, None)
    assert "Link" not in response


def test_new_events_follow_the_last_page(api, path, tenant):
    _, seqs = read(api, path)
    job_id = path.split("/")[3]
    append_late_effect(job_id=job_id, attempt=0, data={})
    _, later = read(api, f"{path}?after={seqs[-1]}")
    assert later == [2]


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("limit=0", "limit"),
        (f"limit={MAX_EVENTS + 1}", "limit"),
        ("limit=x", "limit"),
        ("limit=1&limit=2", "limit"),
        ("after=-1", "after"),
        ("after=2147483648", "after"),
        ("cursor=1", "cursor"),
    ],
)
def test_an_invalid_or_unknown_parameter_is_named(api, path, query, name):
    document = problem(api.get(f"{path}?{query}"), 400, "validation-failed")
    assert {error["parameter"] for error in document["errors"]} == {name}
