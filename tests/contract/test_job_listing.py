"""GET /v1/jobs: newest first, in pages that stay correct while jobs arrive; filters; unknown parameters are refused."""

from __future__ import annotations

import re
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from api.job_documents import format_time
from jobs.models import Job
from jobs.states import State
from tests.support.client import CHARGE, accepted, post, problem
from tests.support.factories import backdate, queued_job
from tests.support.scenarios import in_state


def ids(response):
    assert response.status_code == 200, response.content
    return [job["id"] for job in response.json()["data"]]


def newest_first(jobs):
    return [str(job.id) for job in reversed(jobs)]


def next_link(response):
    match = re.fullmatch(r'<(http://testserver/v1/jobs\?[^>]*)>; rel="next"', response["Link"])
    assert match, response["Link"]
    return match[1]


def test_a_tenant_without_jobs_gets_an_empty_page(api):
    response = api.get("/v1/jobs")
    assert response.json() == {"data": [], "next_cursor": None}
    assert "Link" not in response


def test_jobs_are_listed_newest_first_with_their_full_documents(api, tenant):
    jobs = [in_state(tenant, State(state)) for state in ("queued", "running", "succeeded", "failed", "unknown")]
    listed = api.get("/v1/jobs").json()["data"]
    assert [job["id"] for job in listed] == newest_first(jobs)
    assert listed == [api.get(f"/v1/jobs/{job['id']}").json() for job in listed]


def test_pages_list_each_job_once_while_jobs_arrive(api, tenant):
    jobs = [queued_job(tenant) for _ in range(7)]
    seen, address = [], "/v1/jobs?limit=3"
    while True:
        response = api.get(address)
        page = ids(response)
        assert len(page) <= 3
        seen += page
        queued_job(tenant)
        cursor = response.json()["next_cursor"]
        if cursor is None:
            break
        address = f"/v1/jobs?limit=3&cursor={cursor}"
    assert seen == newest_first(jobs)


def test_following_the_link_header_keeps_the_filters(api, tenant):
    jobs = [queued_job(tenant) for _ in range(5)]
    in_state(tenant, State.CANCELED)
    response = api.get("/v1/jobs?limit=2&state=queued&operation=test.scripted")
    seen = ids(response)
    while response.has_header("Link"):
        link = next_link(response)
        query = parse_qs(urlsplit(link).query)
        assert query["cursor"] == [response.json()["next_cursor"]]
        assert query["state"] == ["queued"]
        response = api.get(link)
        seen += ids(response)
    assert seen == newest_first(jobs)
    assert response.json()["next_cursor"] is None


def test_a_full_last_page_has_no_next_page(api, tenant):
    queued_job(tenant)
    queued_job(tenant)
    response = api.get("/v1/jobs?limit=2")
    assert response.json()["next_cursor"] is None
    assert "Link" not in response


@pytest.mark.parametrize("limit", [1, 100])
def test_the_client_can_set_the_page_size(api, tenant, limit):
    queued_job(tenant)
    queued_job(tenant)
    assert len(ids(api.get(f"/v1/jobs?limit={limit}"))) == min(limit, 2)


@pytest.mark.parametrize("state", ["queued", "running", "succeeded", "failed", "canceled", "unknown"])
def test_jobs_are_found_by_state(api, tenant, state):
    jobs = {
        name: in_state(tenant, State(name))
        for name in ("queued", "running", "succeeded", "failed", "canceled", "unknown")
    }
    assert ids(api.get(f"/v1/jobs?state={state}")) == [str(jobs[state].id)]


def test_jobs_are_found_by_operation(api, tenant):
    queued_job(tenant)
    job = accepted(post(api))
    assert ids(api.get("/v1/jobs?operation=payments.charge")) == [job["id"]]
    assert ids(api.get("/v1/jobs?operation=no.such")) == []


@pytest.mark.parametrize("key", ["plain", '"a b&c=d;e"', '"100%"', '" edge "', '"+"'])
def test_a_job_is_found_by_its_idempotency_key(api, key):
    job = accepted(post(api, key=key))
    accepted(post(api, key="another"))
    assert ids(api.get("/v1/jobs", {"idempotency_key": job["idempotency_key"]})) == [job["id"]]
    assert ids(api.get("/v1/jobs", {"idempotency_key": job["idempotency_key"] + "x"})) == []


def test_jobs_are_found_by_creation_time(api, tenant):
    old, middle, new = (queued_job(tenant) for _ in range(3))
    old = backdate(old.id, created_at=timedelta(minutes=4))
    middle = backdate(middle.id, created_at=timedelta(minutes=2))
    between = [format_time(job.created_at + timedelta(minutes=1)) for job in (old, middle)]
    assert ids(api.get("/v1/jobs", {"created_after": between[1]})) == [str(new.id)]
    assert ids(api.get("/v1/jobs", {"created_before": between[0]})) == [str(old.id)]
    both = {"created_after": between[0], "created_before": between[1]}
    assert ids(api.get("/v1/jobs", both)) == [str(middle.id)]
    assert ids(api.get("/v1/jobs", {"created_after": "2020-01-01T12:00:00+05:30"})) == newest_first([old, middle, new])


@pytest.mark.parametrize("name", ["created_after", "created_before"])
@pytest.mark.parametrize("instant", ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59Z"])
def test_creation_times_at_the_limits_of_the_calendar_are_accepted(api, tenant, name, instant):
    job = queued_job(tenant)
    is_after = (name == "created_after") == (instant < "2000")
    assert ids(api.get("/v1/jobs", {name: instant})) == ([str(job.id)] if is_after else [])


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("state=done", "state"),
        ("state=", "state"),
        ("state=Queued", "state"),
        ("state=queued&state=running", "state"),
        ("operation=", "operation"),
        ("operation=" + "x" * 101, "operation"),
        ("operation=a%00b", "operation"),
        ("idempotency_key=", "idempotency_key"),
        ("idempotency_key=a%00b", "idempotency_key"),
        ("created_after=yesterday", "created_after"),
        ("created_before=1", "created_before"),
        ("created_before=2020-13-01T00:00:00Z", "created_before"),
        ("created_after=0001-01-01T00:00:00%2B14:00", "created_after"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=-1", "limit"),
        ("limit=1.5", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("limit=", "limit"),
        ("cursor=", "cursor"),
        ("cursor=x", "cursor"),
        ("cursor=%F0%9F%98%80", "cursor"),
        ("cursor=" + "A" * 21, "cursor"),
        ("cursor=" + "A" * 300, "cursor"),
        ("cursor=!!" + "A" * 22, "cursor"),
        ("cursor=" + "A" * 22 + "==", "cursor"),
        ("cursor=" + "A" * 21 + "B", "cursor"),
        ("page=2", "page"),
        ("State=queued", "State"),
        ("=x", ""),
    ],
)
def test_an_invalid_or_unknown_parameter_is_named(api, query, name):
    document = problem(api.get(f"/v1/jobs?{query}"), 400, "validation-failed")
    assert {error["parameter"] for error in document["errors"]} == {name}
    assert not Job.objects.exists()


def test_all_invalid_parameters_are_named_together(api):
    document = problem(api.get("/v1/jobs?limit=x&page=1&state=no"), 400, "validation-failed")
    assert {error["parameter"] for error in document["errors"]} == {"limit", "page", "state"}


def test_more_than_a_thousand_parameters_are_refused(api):
    query = "&".join(f"p{number}=1" for number in range(1_001))
    problem(api.get(f"/v1/jobs?{query}"), 400, "validation-failed")


def test_a_list_has_the_metadata_and_params_of_each_job(api):
    accepted(post(api, {**CHARGE, "metadata": {"order": "1"}}))
    [job] = api.get("/v1/jobs").json()["data"]
    assert job["metadata"] == {"order": "1"}
    assert job["params"] == CHARGE["params"]
