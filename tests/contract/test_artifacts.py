"""GET /v1/jobs/{id}/artifacts/{name}: every header and status of the contract, RFC 9110 and RFC 6266 that a download can meet."""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote

import pytest
from rest_framework.test import APIClient

from api import file_responses
from jobs.models import JobArtifact
from tests.support.client import post, problem
from tests.support.downstreams import run
from tests.support.factories import TenantFactory, claimed_job, new_api_key, queued_job
from tests.support.files import CSV, age_artifacts, artifact_of, handle, job_with_file, writing
from workers import purge

pytestmark = pytest.mark.django_db

CONTENT = bytes(range(256)) * 4
SIZE = len(CONTENT)
TAG = f'"{hashlib.sha256(CONTENT).hexdigest()}"'


@pytest.fixture(autouse=True)
def _folder(folder):
    yield
    # Whatever a test did, no place is taken for good.
    assert file_responses._downloads._taken == 0


@pytest.fixture
def job(tenant, script):
    return job_with_file(tenant, script, CONTENT)


@pytest.fixture
def get(api, job):
    """The artifact as a client with these headers gets it; read and closed."""

    def ask(method="get", **headers):
        response = getattr(api, method)(url_of(job), headers={k.replace("_", "-"): v for k, v in headers.items()})
        response.body = response.getvalue()
        return response

    return ask


def leave(response):
    """The client reads a piece, and goes."""
    # As Django's test client does it; `response.close()` would close the test's database connection as well.
    next(response._iterator)
    response._iterator.close()


def url_of(job, name="report.csv"):
    return f"/v1/jobs/{job.id}/artifacts/{name}"


# --- The job's document ------------------------------------------------------------------------------------------------


def test_the_job_lists_what_it_made_in_that_order(api, tenant, script):
    def perform(job):
        job.artifact("b.csv", writing(b"1,2\n"), content_type="text/csv; charset=utf-8")
        job.artifact("a.bin", writing(b""), content_type="application/octet-stream")

    job = run(queued_job(tenant, script=script(perform)).id)
    told = [
        {"name": "b.csv", "content_type": "text/csv; charset=utf-8", "size": 4, "url": url_of(job, "b.csv")},
        {"name": "a.bin", "content_type": "application/octet-stream", "size": 0, "url": url_of(job, "a.bin")},
    ]
    assert api.get(f"/v1/jobs/{job.id}").json()["artifacts"] == told
    assert [one["artifacts"] for one in api.get("/v1/jobs").json()["data"]] == [told]
    assert api.get(told[0]["url"]).getvalue() == b"1,2\n"


def test_changes_of_a_job_are_answered_with_its_artifacts(api, tenant, script):
    def perform(job):
        job.artifact("a", writing(b"x"), **CSV)
        raise ValueError

    job = queued_job(tenant, script=script(perform))
    run(job.id)
    canceled = api.post(f"/v1/jobs/{job.id}/cancel").json()
    assert (canceled["state"], canceled["artifacts"][0]["name"]) == ("canceled", "a")
    redriven = api.post(f"/v1/jobs/{job.id}/redrive").json()
    assert (redriven["state"], redriven["artifacts"]) == ("queued", canceled["artifacts"])


def test_a_running_job_offers_what_it_has_finished(api, tenant):
    job = claimed_job(tenant)
    before = api.get(f"/v1/jobs/{job.id}")
    handle(job).artifact("a", writing(b"x"), **CSV)
    after = api.get(f"/v1/jobs/{job.id}")
    assert (before.json()["artifacts"], after.json()["artifacts"][0]["url"]) == ([], url_of(job, "a"))
    assert before["ETag"] != after["ETag"]
    assert api.get(url_of(job, "a")).getvalue() == b"x"


# --- The whole file ------------------------------------------------------------------------------------------------------


def test_the_whole_file_comes_with_what_a_client_needs_to_keep_it(get):
    response = get()
    assert (response.status_code, response.body) == (200, CONTENT)
    headers = {name: response[name] for name in response.headers}
    assert headers["Content-Type"] == "text/csv"
    assert headers["Content-Length"] == str(SIZE)
    assert headers["ETag"] == TAG
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["Content-Disposition"] == "attachment; filename=\"report.csv\"; filename*=UTF-8''report.csv"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert headers["Cache-Control"] == "private, no-cache, no-transform"
    assert "Content-Range" not in headers
    assert response["X-Request-Id"]


def test_it_is_read_in_pieces(api, tenant, script, monkeypatch):
    monkeypatch.setattr(file_responses, "_CHUNK_BYTES", 100)
    response = api.get(url_of(job_with_file(tenant, script, CONTENT)))
    assert response.streaming
    pieces = list(response)
    assert {len(piece) for piece in pieces} == {100, SIZE % 100}
    assert b"".join(pieces) == CONTENT


@pytest.mark.parametrize("accept", ["*/*", "text/csv", "application/json", "image/png", "text/html;q=0.1", "x"])
def test_a_file_is_what_it_is_whatever_is_preferred(get, accept):
    response = get(Accept=accept)
    assert (response.status_code, response["Content-Type"], response.body) == (200, "text/csv", CONTENT)


def test_an_empty_file_is_a_file(api, tenant, script):
    job = job_with_file(tenant, script, b"")
    response = api.get(url_of(job))
    assert (response.status_code, response.getvalue(), response["Content-Length"]) == (200, b"", "0")


def test_a_head_request_is_a_get_without_its_body(get):
    got, head = get(), get("head")
    assert (head.status_code, head.body) == (200, b"")
    own = {"X-Request-Id"}
    assert {k: v for k, v in head.items() if k not in own} == {k: v for k, v in got.items() if k not in own}


@pytest.mark.parametrize(
    "filename",
    ['a"; filename=evil.exe', "a;b", "Größe 10%.csv", "日本語.csv", "a'b'c", " x ", 'semi;colon"quote', "%41.csv"],
)
def test_a_file_name_reaches_the_client_and_nothing_else_does(api, tenant, script, filename):
    job = job_with_file(tenant, script, b"x", filename=filename)
    header = api.head(url_of(job))["Content-Disposition"]
    told = re.fullmatch(r"attachment; filename=\"([A-Za-z0-9._ -]+)\"; filename\*=UTF-8''([A-Za-z0-9._~%-]+)", header)
    assert told, header
    assert unquote(told[2], errors="strict") == filename
    assert len(told[1]) == len(filename)


# --- Conditional ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [TAG, f"W/{TAG}", f'"other", {TAG}', "*"])
@pytest.mark.parametrize("method", ["get", "head"])
def test_what_the_client_has_is_not_sent_again(get, known, method):
    response = get(method, If_None_Match=known, Range="bytes=0-1")
    assert (response.status_code, response.body) == (304, b"")
    assert response["ETag"] == TAG
    assert response["Cache-Control"] == "private, no-cache, no-transform"
    assert not {"Content-Type", "Content-Range", "Content-Disposition"} & set(response.headers)


@pytest.mark.parametrize("known", ["", '"other"', TAG.strip('"'), "garbage", ","])
def test_another_tag_gets_the_file(get, known):
    response = get(If_None_Match=known)
    assert (response.status_code, response.body) == (200, CONTENT)


# --- Ranges --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-99", 0, 99),
        ("bytes=100-", 100, SIZE - 1),
        ("bytes=1000-99999", 1000, SIZE - 1),
        (f"bytes=0-{SIZE - 1}", 0, SIZE - 1),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE - 1),
        ("bytes=-1", SIZE - 1, SIZE - 1),
        ("bytes=-100", SIZE - 100, SIZE - 1),
        ("bytes=-99999", 0, SIZE - 1),
        ("Bytes=0-1", 0, 1),
        ("bytes= 0-1", 0, 1),
    ],
)
def test_one_range_is_served(get, asked, first, last):
    response = get(Range=asked)
    assert (response.status_code, response.body) == (206, CONTENT[first : last + 1])
    assert response["Content-Range"] == f"bytes {first}-{last}/{SIZE}"
    assert response["Content-Length"] == str(last - first + 1)
    assert (response["ETag"], response["Accept-Ranges"]) == (TAG, "bytes")
    assert response["Content-Type"] == "text/csv"
    assert response["Content-Disposition"].startswith("attachment")


@pytest.mark.parametrize(
    "asked",
    ["bytes=0-1,5-6", "bytes=0-1, -1", "lines=0-1", "bytes=5-4", "bytes=-", "bytes=a-b", "bytes", "bytes=1", "0-1", ""],
)
def test_what_is_not_one_range_of_bytes_gets_the_whole(get, asked):
    response = get(Range=asked)
    assert (response.status_code, response.body) == (200, CONTENT)
    assert "Content-Range" not in response.headers


@pytest.mark.parametrize(
    "asked", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 5}", "bytes=99999-", "bytes=-0", f"bytes={'9' * 5_000}-"]
)
def test_a_range_beyond_the_end_is_refused_with_the_size(api, job, asked):
    response = api.get(url_of(job), headers={"Range": asked})
    problem(response, 416, "range-not-satisfiable")
    assert (response["Content-Range"], response["Accept-Ranges"]) == (f"bytes */{SIZE}", "bytes")


@pytest.mark.parametrize(("asked", "status"), [("bytes=0-", 416), ("bytes=-1", 200)])
def test_of_an_empty_file_there_is_no_part(api, tenant, script, asked, status):
    response = api.get(url_of(job_with_file(tenant, script, b"")), headers={"Range": asked})
    response.getvalue()
    assert response.status_code == status


def test_a_head_request_knows_no_ranges(get):
    for asked in ("bytes=0-1", "bytes=99999-"):
        head = get("head", Range=asked)
        assert (head.status_code, head["Content-Length"]) == (200, str(SIZE))


@pytest.mark.parametrize(
    ("version", "status"),
    [(TAG, 206), (f"W/{TAG}", 200), ('"other"', 200), ("Wed, 21 Oct 2026 07:28:00 GMT", 200), ("", 200)],
)
def test_a_range_of_another_version_gets_the_whole(get, version, status):
    response = get(Range="bytes=0-1", If_Range=version)
    assert (response.status_code, len(response.body)) == (status, 2 if status == 206 else SIZE)


def test_a_range_beyond_the_end_of_another_version_gets_the_whole(get):
    assert get(Range="bytes=99999-", If_Range='"other"').status_code == 200


def test_a_file_can_be_put_together_from_its_ranges(get):
    parts = [get(Range=f"bytes={at}-{at + 99}", If_Range=TAG).body for at in range(0, SIZE, 100)]
    assert b"".join(parts) == CONTENT


# --- Not there, not yours ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["other.csv", "REPORT.CSV", "..", ".", "%2e%2e", "a%00b", "a%0d%0ab", "ä", "a b", "x" * 500]
)
def test_what_the_job_did_not_make_is_not_found(api, job, name):
    problem(api.get(url_of(job, name)), 404, "not-found")


@pytest.mark.parametrize("path", ["artifacts", "artifacts/", "artifacts/report.csv/", "artifacts/../payload"])
def test_there_is_nothing_beside_an_artifact(api, job, path):
    assert api.get(f"/v1/jobs/{job.id}/{path}").status_code in (404, 405)


def test_a_job_that_there_is_not_has_none(api):
    problem(api.get("/v1/jobs/0199f3a4-7a3c-7000-8000-000000000000/artifacts/report.csv"), 404, "not-found")


def test_anothers_and_another_modes_look_like_none(api, tenant, script):
    job = job_with_file(tenant, script, CONTENT)
    missing = api.get(url_of(job, "none")).json()
    for key in (new_api_key(TenantFactory()), new_api_key(tenant, mode="live")):
        stranger = APIClient(raise_request_exception=False)
        stranger.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
        for headers in ({}, {"Range": "bytes=99999-"}, {"If-None-Match": "*"}):
            told = problem(stranger.get(url_of(job), headers=headers), 404, "not-found")
            absent = problem(
                stranger.get("/v1/jobs/0199f3a4-7a3c-7000-8000-000000000000/artifacts/report.csv"), 404, "not-found"
            )
            assert (told["detail"], told["title"]) == (absent["detail"], absent["title"])
    assert missing["code"] == "not-found"


def test_without_a_credential_nothing_is_told(job):
    answer = APIClient(raise_request_exception=False).get(url_of(job))
    problem(answer, 401, "unauthenticated")


def test_an_expired_artifact_is_gone_before_the_purge_comes_and_after(api, tenant, script):
    job = job_with_file(tenant, script, CONTENT, keep=timedelta(hours=1))
    assert api.get(url_of(job)).getvalue() == CONTENT
    age_artifacts()
    before = problem(api.get(url_of(job)), 404, "not-found")
    assert api.get(f"/v1/jobs/{job.id}").json()["artifacts"] == []
    purge.run_once()
    after = problem(api.get(url_of(job)), 404, "not-found")
    assert before["detail"] == after["detail"]


def test_an_erased_one_is_told_to_be_gone(api, job):
    erased = api.delete(f"/v1/jobs/{job.id}/payload")
    assert erased.json()["artifacts"] == []
    told = problem(api.get(url_of(job)), 410, "payload-erased")
    assert told["resource"] == f"/v1/jobs/{job.id}"
    assert not JobArtifact.objects.exists()


# --- Refused -------------------------------------------------------------------------------------------------------------


def test_a_query_that_nobody_would_read_is_refused(api, job):
    problem(api.get(f"{url_of(job)}?download=1"), 400, "validation-failed")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_file_can_only_be_read(api, job, method):
    problem(api.generic(method, url_of(job)), 405, "method-not-allowed")


# --- When storage fails ----------------------------------------------------------------------------------------------------


def test_a_file_that_is_missing_in_storage_is_a_503_and_never_html(api, job, folder):
    (folder / artifact_of(job).storage_name).unlink()
    for response in (api.get(url_of(job)), api.get(url_of(job), headers={"Accept": "text/html"})):
        problem(response, 503, "service-unavailable")
        assert int(response["Retry-After"]) > 0
    assert api.head(url_of(job)).status_code == 503


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"x", b""])
def test_a_file_of_another_length_is_never_sent_as_if_it_were_whole(api, job, folder, content):
    (folder / artifact_of(job).storage_name).write_bytes(content)
    problem(api.get(url_of(job)), 503, "service-unavailable")


def test_a_file_that_was_removed_while_it_was_asked_for_is_told_to_be_gone(api, job, monkeypatch):
    def erase_first(storage_name):
        api.delete(f"/v1/jobs/{job.id}/payload")
        raise FileNotFoundError(storage_name)

    monkeypatch.setattr("api.artifacts.open_file", erase_first)
    problem(api.get(url_of(job)), 410, "payload-erased")


def test_a_file_that_ends_too_soon_cuts_the_answer_off(api, job, folder):
    response = api.get(url_of(job))
    Path(folder / artifact_of(job).storage_name).write_bytes(b"short")
    with pytest.raises(EOFError):
        b"".join(response)


def test_a_download_under_way_ends_whole_though_its_artifact_is_removed(api, job, folder):
    response = api.get(url_of(job))
    (folder / artifact_of(job).storage_name).unlink()
    assert response.getvalue() == CONTENT


# --- Too many at once ------------------------------------------------------------------------------------------------------


def test_downloads_under_way_leave_threads_for_other_requests(api, job, settings):
    settings.DOWNLOADS_MAX = 2
    under_way = [api.get(url_of(job)) for _ in range(2)]
    refused = api.get(url_of(job))
    problem(refused, 503, "service-unavailable")
    assert int(refused["Retry-After"]) > 0
    assert api.head(url_of(job)).status_code == 200
    assert api.get(url_of(job), headers={"If-None-Match": TAG}).status_code == 304
    # One ends, one is left by its client.
    assert under_way.pop().getvalue() == CONTENT
    assert api.get(url_of(job)).getvalue() == CONTENT
    leave(under_way.pop())
    assert api.get(url_of(job)).getvalue() == CONTENT


def test_a_replay_of_a_submission_shows_the_job_as_it_was_then(api):
    first = post(api)
    assert post(api).content == first.content
    assert first.json()["artifacts"] == []
