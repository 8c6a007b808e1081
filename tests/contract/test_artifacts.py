"""GET /v1/jobs/{id}/artifacts/{name}: the headers and statuses of a download, by the contract, RFC 9110 and RFC 6266."""

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
    # Every test must give back the download slots that it used.
    assert file_responses._downloads._taken == 0


@pytest.fixture
def job(tenant, script):
    return job_with_file(tenant, script, CONTENT)


@pytest.fixture
def get(api, job):
    """Return a function that downloads the artifact with these headers, reads the whole body and closes the response."""

    def send(method="get", **headers):
        response = getattr(api, method)(url_of(job), headers={k.replace("_", "-"): v for k, v in headers.items()})
        response.body = response.getvalue()
        return response

    return send


def disconnect(response):
    """Read one chunk, then close the iterator as a client that disconnects would."""
    # Django's test client closes the iterator as well; `response.close()` would also close the test's database connection.
    next(response._iterator)
    response._iterator.close()


def url_of(job, name="report.csv"):
    return f"/v1/jobs/{job.id}/artifacts/{name}"


# --- The job's document -----------------------------------------------------------------------------------------------


def test_a_job_lists_its_artifacts_in_the_order_in_which_they_were_made(api, tenant, script):
    def perform(job):
        job.artifact("b.csv", writing(b"1,2\n"), content_type="text/csv; charset=utf-8")
        job.artifact("a.bin", writing(b""), content_type="application/octet-stream")

    job = run(queued_job(tenant, script=script(perform)).id)
    expected = [
        {"name": "b.csv", "content_type": "text/csv; charset=utf-8", "size": 4, "url": url_of(job, "b.csv")},
        {"name": "a.bin", "content_type": "application/octet-stream", "size": 0, "url": url_of(job, "a.bin")},
    ]
    assert api.get(f"/v1/jobs/{job.id}").json()["artifacts"] == expected
    assert [one["artifacts"] for one in api.get("/v1/jobs").json()["data"]] == [expected]
    assert api.get(expected[0]["url"]).getvalue() == b"1,2\n"


def test_the_responses_of_cancel_and_redrive_list_the_artifacts(api, tenant, script):
    def perform(job):
        job.artifact("a", writing(b"x"), **CSV)
        raise ValueError

    job = queued_job(tenant, script=script(perform))
    run(job.id)
    canceled = api.post(f"/v1/jobs/{job.id}/cancel").json()
    assert (canceled["state"], canceled["artifacts"][0]["name"]) == ("canceled", "a")
    redriven = api.post(f"/v1/jobs/{job.id}/redrive").json()
    assert (redriven["state"], redriven["artifacts"]) == ("queued", canceled["artifacts"])


def test_a_running_job_lists_its_finished_artifacts(api, tenant):
    job = claimed_job(tenant)
    before = api.get(f"/v1/jobs/{job.id}")
    handle(job).artifact("a", writing(b"x"), **CSV)
    after = api.get(f"/v1/jobs/{job.id}")
    assert (before.json()["artifacts"], after.json()["artifacts"][0]["url"]) == ([], url_of(job, "a"))
    assert before["ETag"] != after["ETag"]
    assert api.get(url_of(job, "a")).getvalue() == b"x"


# --- The whole file ---------------------------------------------------------------------------------------------------


def test_a_download_returns_the_whole_file_with_its_headers(get):
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


def test_a_download_is_streamed_in_chunks(api, tenant, script, monkeypatch):
    monkeypatch.setattr(file_responses, "_CHUNK_BYTES", 100)
    response = api.get(url_of(job_with_file(tenant, script, CONTENT)))
    assert response.streaming
    chunks = list(response)
    assert {len(chunk) for chunk in chunks} == {100, SIZE % 100}
    assert b"".join(chunks) == CONTENT


@pytest.mark.parametrize("accept", ["*/*", "text/csv", "application/json", "image/png", "text/html;q=0.1", "x"])
def test_the_accept_header_does_not_change_a_download(get, accept):
    response = get(Accept=accept)
    assert (response.status_code, response["Content-Type"], response.body) == (200, "text/csv", CONTENT)


def test_an_empty_file_can_be_downloaded(api, tenant, script):
    job = job_with_file(tenant, script, b"")
    response = api.get(url_of(job))
    assert (response.status_code, response.getvalue(), response["Content-Length"]) == (200, b"", "0")


def test_head_returns_the_headers_of_a_get_without_a_body(get):
    got, head = get(), get("head")
    assert (head.status_code, head.body) == (200, b"")
    differing = {"X-Request-Id"}
    assert {k: v for k, v in head.items() if k not in differing} == {k: v for k, v in got.items() if k not in differing}


@pytest.mark.parametrize(
    "filename",
    ['a"; filename=evil.exe', "a;b", "Größe 10%.csv", "日本語.csv", "a'b'c", " x ", 'semi;colon"quote', "%41.csv"],
)
def test_a_file_name_cannot_add_parameters_to_content_disposition(api, tenant, script, filename):
    job = job_with_file(tenant, script, b"x", filename=filename)
    header = api.head(url_of(job))["Content-Disposition"]
    match = re.fullmatch(r"attachment; filename=\"([A-Za-z0-9._ -]+)\"; filename\*=UTF-8''([A-Za-z0-9._~%-]+)", header)
    assert match, header
    assert unquote(match[2], errors="strict") == filename
    assert len(match[1]) == len(filename)


# --- Conditional requests ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [TAG, f"W/{TAG}", f'"other", {TAG}', "*"])
@pytest.mark.parametrize("method", ["get", "head"])
def test_an_unchanged_file_is_not_sent_again(get, known, method):
    response = get(method, If_None_Match=known, Range="bytes=0-1")
    assert (response.status_code, response.body) == (304, b"")
    assert response["ETag"] == TAG
    assert response["Cache-Control"] == "private, no-cache, no-transform"
    assert not {"Content-Type", "Content-Range", "Content-Disposition"} & set(response.headers)


@pytest.mark.parametrize("known", ["", '"other"', TAG.strip('"'), "garbage", ","])
def test_a_different_etag_gets_the_whole_file(get, known):
    response = get(If_None_Match=known)
    assert (response.status_code, response.body) == (200, CONTENT)


# --- Ranges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("range_header", "first", "last"),
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
def test_a_single_byte_range_is_served(get, range_header, first, last):
    response = get(Range=range_header)
    assert (response.status_code, response.body) == (206, CONTENT[first : last + 1])
    assert response["Content-Range"] == f"bytes {first}-{last}/{SIZE}"
    assert response["Content-Length"] == str(last - first + 1)
    assert (response["ETag"], response["Accept-Ranges"]) == (TAG, "bytes")
    assert response["Content-Type"] == "text/csv"
    assert response["Content-Disposition"].startswith("attachment")


@pytest.mark.parametrize(
    "range_header",
    ["bytes=0-1,5-6", "bytes=0-1, -1", "lines=0-1", "bytes=5-4", "bytes=-", "bytes=a-b", "bytes", "bytes=1", "0-1", ""],
)
def test_any_other_range_header_gets_the_whole_file(get, range_header):
    response = get(Range=range_header)
    assert (response.status_code, response.body) == (200, CONTENT)
    assert "Content-Range" not in response.headers


@pytest.mark.parametrize(
    "range_header", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 5}", "bytes=99999-", "bytes=-0", f"bytes={'9' * 5_000}-"]
)
def test_a_range_beyond_the_end_is_refused_and_the_size_is_returned(api, job, range_header):
    response = api.get(url_of(job), headers={"Range": range_header})
    problem(response, 416, "range-not-satisfiable")
    assert (response["Content-Range"], response["Accept-Ranges"]) == (f"bytes */{SIZE}", "bytes")


@pytest.mark.parametrize(("range_header", "status"), [("bytes=0-", 416), ("bytes=-1", 200)])
def test_a_range_that_starts_in_an_empty_file_is_refused(api, tenant, script, range_header, status):
    response = api.get(url_of(job_with_file(tenant, script, b"")), headers={"Range": range_header})
    response.getvalue()
    assert response.status_code == status


def test_head_ignores_ranges(get):
    for range_header in ("bytes=0-1", "bytes=99999-"):
        head = get("head", Range=range_header)
        assert (head.status_code, head["Content-Length"]) == (200, str(SIZE))


@pytest.mark.parametrize(
    ("version", "status"),
    [(TAG, 206), (f"W/{TAG}", 200), ('"other"', 200), ("Wed, 21 Oct 2026 07:28:00 GMT", 200), ("", 200)],
)
def test_a_range_needs_the_current_etag_in_if_range(get, version, status):
    response = get(Range="bytes=0-1", If_Range=version)
    assert (response.status_code, len(response.body)) == (status, 2 if status == 206 else SIZE)


def test_a_range_beyond_the_end_with_a_different_if_range_gets_the_whole_file(get):
    assert get(Range="bytes=99999-", If_Range='"other"').status_code == 200


def test_the_ranges_of_a_file_add_up_to_the_file(get):
    parts = [get(Range=f"bytes={at}-{at + 99}", If_Range=TAG).body for at in range(0, SIZE, 100)]
    assert b"".join(parts) == CONTENT


# --- Missing or in another scope --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["other.csv", "REPORT.CSV", "..", ".", "%2e%2e", "a%00b", "a%0d%0ab", "ä", "a b", "x" * 500]
)
def test_an_artifact_that_the_job_does_not_have_is_not_found(api, job, name):
    problem(api.get(url_of(job, name)), 404, "not-found")


@pytest.mark.parametrize("path", ["artifacts", "artifacts/", "artifacts/report.csv/", "artifacts/../payload"])
def test_no_other_path_beside_an_artifact_can_be_read(api, job, path):
    assert api.get(f"/v1/jobs/{job.id}/{path}").status_code in (404, 405)


def test_an_artifact_of_a_missing_job_is_not_found(api):
    problem(api.get("/v1/jobs/0199f3a4-7a3c-7000-8000-000000000000/artifacts/report.csv"), 404, "not-found")


def test_an_artifact_of_another_tenant_or_mode_looks_missing(api, tenant, script):
    job = job_with_file(tenant, script, CONTENT)
    missing = api.get(url_of(job, "none")).json()
    for key in (new_api_key(TenantFactory()), new_api_key(tenant, mode="live")):
        other_client = APIClient(raise_request_exception=False)
        other_client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
        for headers in ({}, {"Range": "bytes=99999-"}, {"If-None-Match": "*"}):
            hidden = problem(other_client.get(url_of(job), headers=headers), 404, "not-found")
            absent = problem(
                other_client.get("/v1/jobs/0199f3a4-7a3c-7000-8000-000000000000/artifacts/report.csv"), 404, "not-found"
            )
            assert (hidden["detail"], hidden["title"]) == (absent["detail"], absent["title"])
    assert missing["code"] == "not-found"


def test_a_download_needs_a_credential(job):
    response = APIClient(raise_request_exception=False).get(url_of(job))
    problem(response, 401, "unauthenticated")


def test_an_expired_artifact_is_not_found_before_and_after_the_purge(api, tenant, script):
    job = job_with_file(tenant, script, CONTENT, keep=timedelta(hours=1))
    assert api.get(url_of(job)).getvalue() == CONTENT
    age_artifacts()
    before = problem(api.get(url_of(job)), 404, "not-found")
    assert api.get(f"/v1/jobs/{job.id}").json()["artifacts"] == []
    purge.run_once()
    after = problem(api.get(url_of(job)), 404, "not-found")
    assert before["detail"] == after["detail"]


def test_an_erased_artifact_returns_410(api, job):
    erased = api.delete(f"/v1/jobs/{job.id}/payload")
    assert erased.json()["artifacts"] == []
    document = problem(api.get(url_of(job)), 410, "payload-erased")
    assert document["resource"] == f"/v1/jobs/{job.id}"
    assert not JobArtifact.objects.exists()


# --- Refused requests -------------------------------------------------------------------------------------------------


def test_a_download_with_a_query_is_refused(api, job):
    problem(api.get(f"{url_of(job)}?download=1"), 400, "validation-failed")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_other_methods_are_refused(api, job, method):
    problem(api.generic(method, url_of(job)), 405, "method-not-allowed")


# --- When storage fails -----------------------------------------------------------------------------------------------


def test_a_file_missing_in_storage_returns_a_503_problem_and_no_html(api, job, folder):
    (folder / artifact_of(job).storage_name).unlink()
    for response in (api.get(url_of(job)), api.get(url_of(job), headers={"Accept": "text/html"})):
        problem(response, 503, "service-unavailable")
        assert int(response["Retry-After"]) > 0
    assert api.head(url_of(job)).status_code == 503


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"x", b""])
def test_a_file_whose_length_differs_from_its_record_is_not_sent(api, job, folder, content):
    (folder / artifact_of(job).storage_name).write_bytes(content)
    problem(api.get(url_of(job)), 503, "service-unavailable")


def test_a_file_erased_during_the_request_returns_410(api, job, monkeypatch):
    def erase_first(storage_name):
        api.delete(f"/v1/jobs/{job.id}/payload")
        raise FileNotFoundError(storage_name)

    monkeypatch.setattr("api.artifacts.open_file", erase_first)
    problem(api.get(url_of(job)), 410, "payload-erased")


def test_a_file_truncated_during_the_download_ends_the_response_with_an_error(api, job, folder):
    response = api.get(url_of(job))
    Path(folder / artifact_of(job).storage_name).write_bytes(b"short")
    with pytest.raises(EOFError):
        b"".join(response)


def test_a_running_download_is_complete_even_if_its_file_is_removed(api, job, folder):
    response = api.get(url_of(job))
    (folder / artifact_of(job).storage_name).unlink()
    assert response.getvalue() == CONTENT


# --- The limit on concurrent downloads --------------------------------------------------------------------------------


def test_concurrent_downloads_are_limited(api, job, settings):
    settings.DOWNLOADS_MAX = 2
    running = [api.get(url_of(job)) for _ in range(2)]
    refused = api.get(url_of(job))
    problem(refused, 503, "service-unavailable")
    assert int(refused["Retry-After"]) > 0
    assert api.head(url_of(job)).status_code == 200
    assert api.get(url_of(job), headers={"If-None-Match": TAG}).status_code == 304
    # A download that ends and one whose client disconnects both free their slot.
    assert running.pop().getvalue() == CONTENT
    assert api.get(url_of(job)).getvalue() == CONTENT
    disconnect(running.pop())
    assert api.get(url_of(job)).getvalue() == CONTENT


def test_a_replay_of_a_submission_shows_the_job_as_it_was_then(api):
    first = post(api)
    assert post(api).content == first.content
    assert first.json()["artifacts"] == []
