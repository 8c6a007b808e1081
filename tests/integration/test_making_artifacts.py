"""Artifacts are made once, whole or not at all, and only by the current attempt."""

from __future__ import annotations

import hashlib
import io
from datetime import timedelta

import pytest
from django.core.files.storage import FileSystemStorage
from django.db import DatabaseError, OperationalError, connection
from django.test.utils import CaptureQueriesContext

from jobs.models import Job, JobArtifact
from jobs.operations import LeaseLost, RetryableError
from jobs.payloads import decode_payload
from jobs.queries import artifacts as rows
from jobs.services import redrive_job
from jobs.states import State
from tests.support.downstreams import run
from tests.support.factories import claim, claimed_job, queued_job
from tests.support.files import (
    CSV,
    age_artifacts,
    age_orphaned_files,
    artifact_of,
    count_orphaned_files,
    handle,
    job_with_file,
    making,
    stored,
    writing,
)
from tests.support.scenarios import HOUR, everything, expire, in_state
from workers import artifacts, purge

pytestmark = pytest.mark.django_db


class Crash(BaseException):
    """The process is dead: no code of ours runs after it."""


def lose_the_job(job):
    """Give the job to another attempt."""
    expire(Job.objects.get(pk=job.id), delay=-HOUR)
    return claim(job.id)


def die(*_args, **_options):
    raise Crash


# --- Made once ---------------------------------------------------------------------------------------------------------


def test_an_artifact_is_stored_and_recorded(tenant, script, folder):
    job = job_with_file(tenant, script, b"a,b\n", filename="Bericht März.csv")
    row = artifact_of(job)
    assert (row.content_type, row.filename, row.size) == ("text/csv", "Bericht März.csv", 4)
    assert (row.attempt, row.expires_at) == (1, None)
    assert bytes(row.digest) == hashlib.sha256(b"a,b\n").digest()
    assert (folder / row.storage_name).read_bytes() == b"a,b\n"
    assert (len(stored(folder)), count_orphaned_files()) == (1, 0)
    assert decode_payload(job.result) == {
        "name": "report.csv",
        "content_type": "text/csv",
        "size": 4,
        "sha256": bytes(row.digest).hex(),
    }


def test_a_later_attempt_finds_the_artifact_and_does_not_make_it_again(tenant, script, folder):
    calls, seen = [], []

    def write(file):
        calls.append(1)
        file.write(b"once")

    def perform(job):
        seen.append(job.artifact("a.txt", write, content_type="text/plain"))
        if job.attempt == 1:
            raise RetryableError

    job = queued_job(tenant, script=script(perform))
    run(job.id)
    assert run(job.id).state == State.SUCCEEDED
    assert (len(calls), seen[0]) == (1, seen[1])
    assert stored(folder) == [b"once"]


def test_a_redriven_job_keeps_its_artifact(tenant, script, folder):
    def perform(job):
        job.artifact("a.txt", writing(str(job.attempt).encode()), content_type="text/plain")
        if job.attempt < 4:
            raise RetryableError

    job = queued_job(tenant, script=script(perform))
    for _ in range(3):
        run(job.id)
    assert Job.objects.get(pk=job.id).state == State.FAILED
    redrive_job(tenant_id=tenant.id, mode="test", job_id=job.id)
    assert run(job.id).state == State.SUCCEEDED
    assert stored(folder) == [b"1"]


def test_an_empty_file_is_an_artifact(tenant, script, folder):
    job = job_with_file(tenant, script, b"")
    assert (artifact_of(job).size, stored(folder)) == (0, [b""])


def test_a_job_can_have_several_artifacts(tenant, script, folder):
    def perform(job):
        for name in ("one", "two"):
            job.artifact(name, writing(name.encode()), content_type="text/plain")

    job = run(queued_job(tenant, script=script(perform)).id)
    assert [row.name for row in JobArtifact.objects.filter(job_id=job.id).order_by("name")] == ["one", "two"]
    assert sorted(stored(folder)) == [b"one", b"two"]


def test_the_writer_may_seek_wrap_and_close_the_file(tenant, script, folder):
    def write(file):
        file.write(b"?????")
        file.seek(0)
        with io.TextIOWrapper(file, encoding="utf-8") as text:
            text.write("größ")

    job = run(
        queued_job(tenant, script=script(lambda job: vars(job.artifact("a", write, content_type="text/plain")))).id
    )
    assert job.state == State.SUCCEEDED
    assert stored(folder) == ["größ".encode()]


# Python warns of the unclosed wrapper; a file without its end would be worse.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_data_still_buffered_in_a_wrapper_is_not_lost(tenant, script, folder):
    def write(file):
        io.TextIOWrapper(file, encoding="utf-8").write("kept")

    run(queued_job(tenant, script=script(lambda job: vars(job.artifact("a", write, **CSV)))).id)
    assert stored(folder) == [b"kept"]


def test_a_first_attempt_costs_two_statements_for_an_artifact(tenant, folder):
    job = handle(claimed_job(tenant))
    with CaptureQueriesContext(connection) as captured:
        job.artifact("a", writing(b"x"), **CSV)
    assert len(captured) == 2, [query["sql"] for query in captured]


def test_nothing_is_written_to_storage_inside_a_transaction(tenant, script, folder, monkeypatch):
    depths = []

    def save(storage, name, content, save=FileSystemStorage._save):
        depths.append(len(connection.savepoint_ids))
        return save(storage, name, content)

    monkeypatch.setattr(FileSystemStorage, "_save", save)
    job_with_file(tenant, script, b"x")
    # The test's own transaction, and no savepoint in it.
    assert depths == [len(connection.savepoint_ids)]


# --- Refused -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        *({"name": name} for name in ("", ".", "..", ".x", "a/b", "../x", "a b", "ä", "a" * 101, "a\n", "-a")),
        *({"content_type": kind} for kind in ("", "text", "text/html\r\nX: y", "text/html;", "a/b" + "c" * 200)),
        *({"filename": name} for name in ("a/b", "a\\b", "a\r\nb", "a\x00", "a" * 201)),
        *({"keep": keep} for keep in (timedelta(0), timedelta(-1))),
    ],
)
def test_names_and_types_that_http_cannot_carry_are_refused_before_anything_is_written(tenant, folder, wrong):
    job, calls = handle(claimed_job(tenant)), []
    draft = {"name": "report.csv", **CSV, **wrong}
    with pytest.raises(ValueError, match=r"not|path"):
        job.artifact(draft.pop("name"), calls.append, **draft)
    assert (calls, stored(folder), count_orphaned_files()) == ([], [], 0)


def test_a_name_is_used_once_in_an_attempt_and_may_equal_a_steps_name(tenant, folder):
    job = handle(claimed_job(tenant))
    job.step("a", lambda: 1)
    job.artifact("a", writing(b"x"), **CSV)
    with pytest.raises(ValueError, match="used before"):
        job.artifact("a", writing(b"y"), **CSV)


def test_a_job_makes_no_more_artifacts_than_its_document_can_list(tenant, script, folder, settings):
    settings.ARTIFACTS_MAX = 2

    def perform(job):
        for number in range(3):
            job.artifact(f"a{number}", writing(b"x"), **CSV)

    job = run(queued_job(tenant, script=script(perform)).id)
    assert job.state == State.FAILED
    assert decode_payload(job.error)["cause"] == "too-many-artifacts"
    assert len(stored(folder)) == 2


# --- Dying before and after each write ---------------------------------------------------------------------------------


def interrupted(tenant, script, perform):
    """Return a job whose first attempt died in `perform`, after its lease expired."""
    job = queued_job(tenant, script=script(perform))
    with pytest.raises(Crash):
        run(job.id)
    expire(Job.objects.get(pk=job.id), delay=-HOUR)
    return job


def test_a_crash_while_it_is_written_leaves_nothing(tenant, script, folder):
    def write(file):
        file.write(b"x" * 100_000)
        if len(tries) == 1:
            raise Crash

    def perform(job):
        tries.append(1)
        job.artifact("a", write, **CSV)

    tries = []
    job = interrupted(tenant, script, perform)
    assert (stored(folder), count_orphaned_files(), JobArtifact.objects.count()) == ([], 0, 0)
    assert run(job.id).state == State.SUCCEEDED
    assert stored(folder) == [b"x" * 100_000]


def test_a_failure_while_it_is_written_leaves_nothing(tenant, script, folder):
    def write(file):
        file.write(b"half")
        raise RetryableError

    job = run(queued_job(tenant, script=script(lambda job: job.artifact("a", write, **CSV))).id)
    assert (job.state, stored(folder), count_orphaned_files()) == (State.QUEUED, [], 0)


@pytest.mark.parametrize("where", ["before", "amid", "after"])
def test_a_crash_while_it_is_stored_leaves_an_orphaned_file_for_the_purge(tenant, script, folder, monkeypatch, where):
    def save(storage, name, content, save=FileSystemStorage._save):
        if where == "amid":
            (folder / name).parent.mkdir()
            (folder / name).write_bytes(b"ha")
        if where == "after":
            save(storage, name, content)
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(FileSystemStorage, "_save", save)
        patch.setattr(artifacts, "remove_unpublished", die)  # the process is dead
        job = interrupted(tenant, script, making(b"half"))
    assert (count_orphaned_files(), JobArtifact.objects.count()) == (1, 0)
    assert run(job.id).state == State.SUCCEEDED
    age_orphaned_files()
    assert purge.run_once().files_deleted == 1
    assert (stored(folder), count_orphaned_files()) == ([b"half"], 0)


def test_a_crash_between_storing_and_publishing_leaves_an_orphaned_file_for_the_purge(
    tenant, script, folder, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(artifacts, "publish_file", die)
        job = interrupted(tenant, script, making(b"x"))
    assert (stored(folder), count_orphaned_files(), JobArtifact.objects.count()) == ([b"x"], 1, 0)
    assert run(job.id).state == State.SUCCEEDED
    age_orphaned_files()
    assert purge.run_once().files_deleted == 1
    assert (stored(folder), count_orphaned_files()) == ([b"x"], 0)


def test_a_crash_after_it_is_published_leaves_an_artifact_for_the_next_attempt(tenant, script, folder):
    def perform(job):
        job.artifact("a", writing(str(job.attempt).encode()), **CSV)
        if job.attempt == 1:
            raise Crash

    job = interrupted(tenant, script, perform)
    assert (stored(folder), count_orphaned_files()) == ([b"1"], 0)
    assert run(job.id).state == State.SUCCEEDED
    assert stored(folder) == [b"1"]


def test_a_storage_that_fails_leaves_nothing_and_the_next_attempt_stores_it(tenant, script, folder, monkeypatch):
    def full(storage, name, content):
        (folder / name).parent.mkdir()
        (folder / name).write_bytes(b"ha")
        raise OSError("No space left on device")

    job = queued_job(tenant, script=script(making(b"half")))
    with monkeypatch.context() as patch:
        patch.setattr(FileSystemStorage, "_save", full)
        assert run(job.id).state == State.QUEUED
    assert (stored(folder), count_orphaned_files()) == ([], 0)
    assert run(job.id).state == State.SUCCEEDED


# --- A database that loses replies ---------------------------------------------------------------------------------------


@pytest.fixture
def reply_is_lost(monkeypatch):
    """Lose the reply to the first write of an artifact's row, after its commit."""

    def lose(name):
        write, lost = getattr(artifacts, name), []

        def twice(**values):
            result = write(**values)
            if not lost:
                lost.append(1)
                raise OperationalError("server closed the connection unexpectedly")
            return result

        monkeypatch.setattr(artifacts, name, twice)
        # The test runs inside a transaction, which closing the connection would roll back.
        monkeypatch.setattr("workers.lease.connection", type("Kept", (), {"close": lambda _self: None})())
        monkeypatch.setattr("workers.lease._RETRY_SECONDS", 0.0)

    return lose


@pytest.mark.parametrize("write", ["begin_file", "publish_file"])
def test_a_write_whose_reply_was_lost_is_repeated_without_harm(tenant, folder, reply_is_lost, write):
    reply_is_lost(write)
    job = claimed_job(tenant)
    assert handle(job).artifact("a", writing(b"x"), **CSV).size == 1
    assert (stored(folder), count_orphaned_files(), artifact_of(job, "a").attempt) == ([b"x"], 0, 1)


def test_a_publication_with_an_unknown_outcome_never_removes_the_file(tenant, folder, monkeypatch):
    def commit_and_fail(**values):
        rows.publish_file(**values)
        raise DatabaseError("outcome unknown")

    monkeypatch.setattr(artifacts, "publish_file", commit_and_fail)
    job = claimed_job(tenant)
    with pytest.raises(DatabaseError):
        handle(job).artifact("a", writing(b"x"), **CSV)
    age_orphaned_files()
    purge.run_once()
    assert (folder / artifact_of(job, "a").storage_name).read_bytes() == b"x"


def test_a_publication_with_an_unknown_outcome_of_a_lost_job_never_removes_the_file(tenant, folder, monkeypatch):
    job = claimed_job(tenant)

    def commit_and_see_nothing(**values):
        assert rows.publish_file(**values)
        lose_the_job(job)
        return rows.publish_file(**values)

    monkeypatch.setattr(artifacts, "publish_file", commit_and_see_nothing)
    with pytest.raises(LeaseLost):
        handle(job).artifact("a", writing(b"x"), **CSV)
    assert (folder / artifact_of(job, "a").storage_name).read_bytes() == b"x"


# --- Fencing -----------------------------------------------------------------------------------------------------------


def test_a_stale_attempt_begins_no_file(tenant, folder):
    stale = claimed_job(tenant)
    job = handle(stale)
    lose_the_job(stale)
    before = everything(stale.id)
    with pytest.raises(LeaseLost):
        job.artifact("a", writing(b"x"), **CSV)
    assert (stored(folder), count_orphaned_files(), everything(stale.id)) == ([], 0, before)


@pytest.mark.parametrize("when", ["before its own", "after its own"])
def test_an_attempt_that_lost_the_job_while_storing_publishes_and_overwrites_nothing(tenant, folder, monkeypatch, when):
    stale = claimed_job(tenant)

    def save(storage, name, content, save=FileSystemStorage._save):
        monkeypatch.undo()
        if when == "after its own":
            saved = save(storage, name, content)
        current.append(handle(lose_the_job(stale)))
        current[0].artifact("a", writing(b"current"), **CSV)
        return saved if when == "after its own" else save(storage, name, content)

    current = []
    # `monkeypatch.undo` reverts it, so the folder's settings must not be in the same patch.
    monkeypatch.setattr(FileSystemStorage, "_save", save)
    with pytest.raises(LeaseLost):
        handle(stale).artifact("a", writing(b"stale"), **CSV)
    row = artifact_of(stale, "a")
    assert (row.attempt, row.size) == (2, 7)
    assert (stored(folder), count_orphaned_files()) == ([b"current"], 0)


def test_a_stale_attempt_removes_the_file_that_it_stored_after_the_purge(tenant, folder, monkeypatch):
    stale = claimed_job(tenant)

    def save(storage, name, content, save=FileSystemStorage._save):
        lose_the_job(stale)
        age_orphaned_files()
        assert purge.run_once().files_deleted == 1
        return save(storage, name, content)

    monkeypatch.setattr(FileSystemStorage, "_save", save)
    with pytest.raises(LeaseLost):
        handle(stale).artifact("a", writing(b"x"), **CSV)
    assert (stored(folder), count_orphaned_files()) == ([], 0)


def test_the_purge_keeps_the_file_of_a_running_attempt_however_long_it_takes(tenant, folder, monkeypatch):
    job = claimed_job(tenant)

    def save(storage, name, content, save=FileSystemStorage._save):
        saved = save(storage, name, content)
        age_orphaned_files()
        assert purge.run_once().files_deleted == 0
        return saved

    monkeypatch.setattr(FileSystemStorage, "_save", save)
    handle(job).artifact("a", writing(b"x"), **CSV)
    assert (folder / artifact_of(job, "a").storage_name).read_bytes() == b"x"


@pytest.mark.parametrize("state", [state for state in State if state is not State.RUNNING])
def test_a_job_that_is_not_running_gets_no_artifact(tenant, state):
    job = in_state(tenant, state)
    held = {"job_id": job.id, "attempt": job.attempt}
    file = rows.StoredFile(name="a", **CSV, filename="a", keep=None, size=1, digest=b"x" * 32, storage_name="x")
    assert not rows.begin_file(**held, name="a", storage_name="x", grace=HOUR)
    assert not rows.publish_file(**held, file=file)
    assert (count_orphaned_files(), JobArtifact.objects.count()) == (0, 0)


# --- Kept for a while ----------------------------------------------------------------------------------------------------


def test_an_attempt_makes_an_expired_artifact_again(tenant, script, folder):
    def perform(job):
        job.artifact("a", writing(str(job.attempt).encode()), **CSV, keep=timedelta(hours=1))
        if job.attempt == 1:
            raise RetryableError

    job = queued_job(tenant, script=script(perform))
    run(job.id)
    age_artifacts()
    assert run(job.id).state == State.SUCCEEDED
    assert artifact_of(job, "a").attempt == 2
    assert purge.run_once().files_deleted == 1
    assert (stored(folder), count_orphaned_files()) == ([b"2"], 0)
