"""A file is removed when its artifact expires, its payload is erased or its job is purged, and not before."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.files.storage import FileSystemStorage
from django.db import connection
from django.test.utils import CaptureQueriesContext

from jobs import job_purge
from jobs.models import JobArtifact, OrphanedFile
from jobs.services import erase_payload
from tests.support.factories import backdate
from tests.support.files import (
    age_artifacts,
    age_orphaned_files,
    artifact_of,
    count_orphaned_files,
    job_with_file,
    stored,
)
from tests.support.keyed import LONG_AGO
from workers import purge

pytestmark = pytest.mark.django_db


def erase(job):
    erase_payload(tenant_id=job.tenant_id, mode="test", job_id=job.id)


# --- Expiry --------------------------------------------------------------------------------------------------------------


def test_an_expired_artifact_is_removed_and_its_job_stays(tenant, script, folder):
    job = job_with_file(tenant, script, b"x", keep=timedelta(hours=1))
    other = job_with_file(tenant, script, b"other")
    assert purge.run_once() == purge.Counts()
    age_artifacts()
    assert purge.run_once() == purge.Counts(artifacts_deleted=1, files_deleted=1)
    assert (stored(folder), count_orphaned_files()) == ([b"other"], 0)
    assert list(JobArtifact.objects.values_list("job_id", flat=True)) == [other.id]
    job.refresh_from_db()
    assert job.state == "succeeded"


def test_more_artifacts_than_a_batch_expire_in_one_purge(tenant, script, folder, settings):
    settings.BATCH_ROWS = 2
    for _ in range(5):
        job_with_file(tenant, script, b"x", keep=timedelta(hours=1))
    age_artifacts()
    assert purge.run_once() == purge.Counts(artifacts_deleted=5, files_deleted=5)
    assert (stored(folder), count_orphaned_files()) == ([], 0)


# --- Erased, purged --------------------------------------------------------------------------------------------------------


def test_an_erasure_removes_the_files_once_it_is_committed(tenant, script, folder, django_capture_on_commit_callbacks):
    job = job_with_file(tenant, script, b"secret")
    kept = job_with_file(tenant, script, b"kept")
    with django_capture_on_commit_callbacks(execute=True):
        erase(job)
        assert b"secret" in stored(folder)
    assert (stored(folder), count_orphaned_files()) == ([b"kept"], 0)
    assert artifact_of(kept)


def test_files_of_an_erasure_that_crashed_after_its_commit_are_left_to_the_purge(tenant, script, folder):
    job = job_with_file(tenant, script, b"secret")
    erase(job)  # the callbacks after the commit do not run
    assert (stored(folder), count_orphaned_files(), JobArtifact.objects.count()) == ([b"secret"], 1, 0)
    assert purge.run_once() == purge.Counts(files_deleted=1)
    assert (stored(folder), count_orphaned_files()) == ([], 0)


def test_an_erasure_succeeds_although_the_storage_fails(
    tenant, script, folder, monkeypatch, django_capture_on_commit_callbacks
):
    job = job_with_file(tenant, script, b"secret")
    with monkeypatch.context() as patch:
        patch.setattr(FileSystemStorage, "delete", fail)
        with django_capture_on_commit_callbacks(execute=True):
            erase(job)
    assert (count_orphaned_files(), JobArtifact.objects.count()) == (1, 0)
    age_orphaned_files()
    assert purge.run_once() == purge.Counts(files_deleted=1)
    assert stored(folder) == []


def test_the_files_of_a_purged_job_are_removed(tenant, script, folder):
    backdate(job_with_file(tenant, script, b"old").id, finished_at=LONG_AGO)
    job_with_file(tenant, script, b"young")
    assert purge.run_once() == purge.Counts(jobs_deleted=1, files_deleted=1)
    assert (stored(folder), count_orphaned_files(), JobArtifact.objects.count()) == ([b"young"], 0, 1)


def test_a_purge_that_crashes_between_rows_and_files_leaves_the_files_to_the_next(tenant, script, folder):
    backdate(job_with_file(tenant, script, b"old").id, finished_at=LONG_AGO)
    job_purge.run_once(10)
    assert (stored(folder), count_orphaned_files()) == ([b"old"], 1)
    assert purge.run_once() == purge.Counts(files_deleted=1)
    assert (stored(folder), count_orphaned_files()) == ([], 0)


# --- Removing --------------------------------------------------------------------------------------------------------------


def fail(_storage, _name):
    raise OSError("The storage is away.")


def orphaned_file(name, content, folder):
    (folder / name).write_bytes(content)
    OrphanedFile.objects.create(
        storage_name=name, job_id="0199f3a4-7a3c-7000-8000-000000000000", attempt=1, removable_at="2020-01-01T00:00Z"
    )


def test_the_row_of_a_missing_file_is_deleted(folder):
    orphaned_file("a", b"x", folder)
    (folder / "a").unlink()
    assert purge.run_once() == purge.Counts(files_deleted=1)
    assert count_orphaned_files() == 0


def test_an_orphaned_file_stays_until_it_is_removable(folder):
    orphaned_file("a", b"x", folder)
    age_orphaned_files(-timedelta(days=36_500))
    assert purge.run_once() == purge.Counts()
    assert stored(folder) == [b"x"]


def test_a_file_that_cannot_be_removed_does_not_block_the_others(folder, monkeypatch):
    def delete(storage, name, delete=FileSystemStorage.delete):
        if name == "a":
            fail(storage, name)
        delete(storage, name)

    for name in ("a", "b", "c"):
        orphaned_file(name, b"x", folder)
    with monkeypatch.context() as patch:
        patch.setattr(FileSystemStorage, "delete", delete)
        for _ in range(2):
            purge.run_once()
        assert list(OrphanedFile.objects.values_list("storage_name", flat=True)) == ["a"]
    age_orphaned_files()
    purge.run_once()
    assert (stored(folder), count_orphaned_files()) == ([], 0)


def test_a_purge_tries_an_unavailable_storage_twice_however_many_files_there_are(folder, monkeypatch):
    tries = []
    for name in "abcdef":
        orphaned_file(name, b"x", folder)
    monkeypatch.setattr(FileSystemStorage, "delete", lambda storage, name: tries.append(name) or fail(storage, name))
    assert purge.run_once() == purge.Counts()
    assert (len(tries), count_orphaned_files()) == (2, 6)


def test_files_are_removed_outside_of_transactions_a_batch_at_a_time(folder, monkeypatch):
    monkeypatch.setattr("jobs.orphaned_files._FILES_AT_ONCE", 2)
    for number in range(5):
        orphaned_file(f"f{number}", b"x", folder)
    with CaptureQueriesContext(connection) as captured:
        assert purge.run_once() == purge.Counts(files_deleted=5)
    about = [query["sql"] for query in captured if "orphaned_file" in query["sql"]]
    assert sum("DELETE" in sql and "ANY" in sql for sql in about) == 3
    assert stored(folder) == []
