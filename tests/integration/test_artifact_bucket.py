"""Artifacts in an S3-compatible bucket: the same promises, and only the parts that are sent are fetched."""

from __future__ import annotations

import os

import pytest

from tests.support.bucket import running_bucket
from tests.support.client import problem
from tests.support.files import artifact_of, count_orphaned_files, job_with_file
from workers import purge

pytestmark = pytest.mark.django_db

MIB = 1024 * 1024
CONTENT = os.urandom(3 * MIB + 5)


@pytest.fixture
def bucket(settings):
    with running_bucket() as bucket:
        settings.STORAGES = {**settings.STORAGES, "artifacts": bucket.storage}
        yield bucket


@pytest.fixture
def job(tenant, script, bucket):
    return job_with_file(tenant, script, CONTENT)


def url_of(job):
    return f"/v1/jobs/{job.id}/artifacts/report.csv"


def test_a_file_is_stored_in_the_bucket_and_downloaded_in_parts(api, tenant, script, bucket):
    job = job_with_file(tenant, script, CONTENT)
    assert bucket.objects == {f"/files/{artifact_of(job).storage_name}": CONTENT}
    assert api.get(url_of(job)).getvalue() == CONTENT
    assert bucket.sent == [MIB, MIB, MIB, 5]


@pytest.mark.parametrize(
    ("requested", "first", "last"),
    [("0-9", 0, 9), ("-7", len(CONTENT) - 7, len(CONTENT) - 1), (f"{2 * MIB}-{2 * MIB}", 2 * MIB, 2 * MIB)],
)
def test_a_range_request_fetches_little_more_than_the_range(api, job, bucket, requested, first, last):  # noqa: PLR0917 - pytest's
    response = api.get(url_of(job), headers={"Range": f"bytes={requested}"})
    assert (response.status_code, response.getvalue()) == (206, CONTENT[first : last + 1])
    assert sum(bucket.sent) <= MIB


def test_a_head_request_fetches_nothing(api, tenant, script, bucket):
    response = api.head(url_of(job_with_file(tenant, script, CONTENT)))
    assert (response.status_code, response["Content-Length"]) == (200, str(len(CONTENT)))
    assert bucket.sent == []


def test_a_missing_or_replaced_object_is_a_503(api, tenant, script, bucket):
    job = job_with_file(tenant, script, CONTENT)
    [path] = bucket.objects
    bucket.objects[path] = b"another"
    problem(api.get(url_of(job)), 503, "service-unavailable")
    del bucket.objects[path]
    problem(api.get(url_of(job)), 503, "service-unavailable")


def test_an_object_that_is_replaced_during_a_download_is_not_sent(api, tenant, script, bucket):
    response = api.get(url_of(job_with_file(tenant, script, CONTENT)))
    [path] = bucket.objects
    bucket.objects[path] = CONTENT[::-1]
    with pytest.raises(Exception, match="Precondition"):
        response.getvalue()


def test_an_erased_file_leaves_the_bucket(api, tenant, script, bucket):
    job = job_with_file(tenant, script, CONTENT)
    api.delete(f"/v1/jobs/{job.id}/payload")
    assert purge.run_once().files_deleted == 1
    assert (bucket.objects, count_orphaned_files()) == ({}, 0)
