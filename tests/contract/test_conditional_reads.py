"""Every GET of a resource returns a weak ETag, and a client that has the current response gets 304 without a body."""

from __future__ import annotations

import pytest

from tests.support.client import accepted, post, problem

READS = {
    "a job": "{job}",
    "jobs": "/v1/jobs?limit=1",
    "events": "{job}/events?limit=1",
    "operations": "/v1/operations",
    "a key": "/v1/idempotency-keys/a-key",
    "the policy": "/.well-known/idempotency",
    "a problem": "/problems/not-found",
    "the schema": "/schema?format=json",
    "the docs page": "/docs",
}
# RFC 9110 §15.4.5: a 304 has these headers of the 200.
KEPT = ("ETag", "Cache-Control", "Vary", "Link", "Retry-After")


@pytest.fixture
def address(api):
    job = accepted(post(api))["links"]["self"]
    accepted(post(api, key="another"))
    post(api, b"", path=f"{job}/cancel", key=None)
    return lambda name: READS[name].replace("{job}", job)


@pytest.mark.parametrize("name", READS)
def test_a_current_etag_gets_304_with_the_headers_of_the_200(api, address, name):
    first = api.get(address(name))
    assert first.status_code == 200
    assert first["ETag"].startswith('W/"')
    assert "Cache-Control" in first
    strong = first["ETag"].removeprefix("W/")
    for known in (first["ETag"], strong, f'"other", W/"a,b" ,{first["ETag"]}', "*"):
        again = api.get(address(name), headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b""), known
        # RFC 9110 §8.6: a Content-Length would be that of the 200 response, which is not sent.
        assert not {"Content-Type", "Content-Length"} & again.headers.keys()
        for header in KEPT:
            assert again.get(header) == first.get(header), header


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("known", ['W/"0"', '"*"', "W/", "x", ",", ""])
def test_a_different_or_invalid_etag_gets_the_whole_response(api, address, name, known):
    first = api.get(address(name))
    again = api.get(address(name), headers={"If-None-Match": known})
    assert (again.status_code, again.content) == (200, first.content)


@pytest.mark.parametrize("name", READS)
def test_head_returns_the_headers_of_a_get(api, address, name):
    first = api.get(address(name))
    head = api.head(address(name))
    assert (head.status_code, head.content) == (200, b"")
    for header in ("Content-Type", "Content-Length", *KEPT):
        assert head.get(header) == first.get(header), header
    assert api.head(address(name), headers={"If-None-Match": first["ETag"]}).status_code == 304


@pytest.mark.parametrize("name", ["a job", "jobs", "events", "a key"])
def test_resources_that_change_are_revalidated_each_time(api, address, name):
    assert api.get(address(name))["Cache-Control"] == "private, no-cache"


def test_a_change_of_a_job_changes_the_etags_of_job_history_and_list(api):
    job = accepted(post(api))["links"]["self"]
    tags = {path: api.get(path)["ETag"] for path in (job, f"{job}/events", "/v1/jobs")}
    post(api, b"", path=f"{job}/cancel", key=None)
    for path, tag in tags.items():
        assert api.get(path, headers={"If-None-Match": tag}).status_code == 200, path


@pytest.mark.parametrize("path", ["/v1/jobs?limit=x", "/v1/jobs/0199f3a4-7a3c-7000-8000-000000000000"])
def test_an_error_has_no_etag_and_is_always_sent_whole(api, path):
    refused = api.get(path, headers={"If-None-Match": "*"})
    assert "ETag" not in refused
    problem(refused, refused.status_code, "validation-failed" if "?" in path else "not-found")
