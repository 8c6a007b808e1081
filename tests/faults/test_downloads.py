"""Files over real sockets: large ones in little memory, parts of them, clients that stop reading or leave; workers that die."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import psutil
import pytest
from django.conf import settings

from jobs.models import JobArtifact
from tests.support.factories import TenantFactory, new_api_key
from tests.support.files import age_orphaned_files, count_orphaned_files
from tests.support.operations import piece
from tests.support.stack import POLL_SECONDS, SHORT_LEASE, Caller, running_stack
from tests.support.waiting import until
from workers import purge

pytestmark = pytest.mark.django_db(transaction=True)

MIB = 1024 * 1024
LARGE = 200
# What a process may need besides the file: buffers on both sides of a socket, a few pieces, what an allocator keeps.
SMALL_MIB = 40


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("downloads")
    env = {
        **SHORT_LEASE,
        "OPERATIONS": ",".join([*settings.OPERATIONS, "tests.support.operations.BigFile"]),
        # The api has one process, so it is known which one is full.
        "DOWNLOADS_MAX": "2",
    }
    with django_db_blocker.unblock(), running_stack(folder, **env) as stack:
        stack.start_workers("worker", "maintenance", "beat")
        stack.start_api()
        yield stack


@pytest.fixture(autouse=True)
def _folder(stack, settings, tmp_path):
    """The processes' own: the same as this process's, since both have it from the environment."""
    assert settings.STORAGES["artifacts"]["OPTIONS"]["location"] == stack.env["ARTIFACTS_ROOT"]


def made(caller, pieces, key, **params):
    """The job that has made a file of so many MiB, and the file's address."""
    body = {"operation": "test.big_file", "params": {"pieces": pieces, **params}}
    answer = caller.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": key})
    job = caller.job_when(answer.json()["links"]["self"], "succeeded")
    return job, job["artifacts"][0]["url"]


def processes(running):
    parent = psutil.Process(running.popen.pid)
    return [parent, *parent.children(recursive=True)]


def peak_mib(running):
    """The most memory that a process of the group ever had."""
    status = [Path(f"/proc/{one.pid}/status").read_text() for one in processes(running)]
    return max(int(re.search(r"VmHWM:\s+(\d+) kB", text)[1]) for text in status) / 1024


def digest_of(caller, url):
    """The SHA-256 of what arrives, and how many bytes that is."""
    digest, length = hashlib.sha256(), 0
    with caller.http.stream("GET", url) as response:
        assert response.status_code == 200, response.read()
        for part in response.iter_raw():
            digest.update(part)
            length += len(part)
    return digest.hexdigest(), length


def test_a_large_file_is_made_and_sent_in_little_memory(stack, caller):
    made(caller, 1, "warm-up")
    worker, api = (peak_mib(stack.running[name]) for name in ("worker", "api"))
    job, url = made(caller, LARGE, "large")
    assert job["artifacts"][0]["size"] == LARGE * MIB
    assert peak_mib(stack.running["worker"]) < worker + SMALL_MIB
    # One that was begun and is not read; meanwhile another one is, whole.
    with caller.http.stream("GET", url) as stalled:
        assert stalled.status_code == 200
        assert digest_of(caller, url) == (job["result"]["sha256"], LARGE * MIB)
    assert peak_mib(stack.running["api"]) < api + SMALL_MIB


def test_the_streams_process_sends_it_in_little_memory_too(stack, caller, api_key):
    job, url = made(caller, LARGE, "large")
    waiting = Caller(stack.start_streams(), api_key)
    with waiting.http:
        assert waiting.http.get(job["links"]["self"]).status_code == 200
        before = peak_mib(stack.running["streams"])
        assert digest_of(waiting, url) == (job["result"]["sha256"], LARGE * MIB)
        part = waiting.http.get(url, headers={"Range": "bytes=0-9"})
        assert (part.status_code, part.content) == (206, piece(0)[:10])
        assert peak_mib(stack.running["streams"]) < before + SMALL_MIB


def test_range_and_head_requests_return_the_announced_length(caller):
    _, url = made(caller, 3, "three")
    whole = caller.http.get(url)
    assert whole.content == b"".join(map(piece, range(3)))
    head = caller.http.head(url)
    assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", str(3 * MIB))
    for name in ("ETag", "Accept-Ranges", "Content-Disposition", "X-Content-Type-Options", "Content-Type"):
        assert head.headers[name] == whole.headers[name], name
    part = caller.http.get(url, headers={"Range": f"bytes={MIB - 1}-{MIB}", "If-Range": head.headers["ETag"]})
    assert (part.status_code, part.content) == (206, piece(0)[-1:] + piece(1)[:1])
    assert part.headers["Content-Range"] == f"bytes {MIB - 1}-{MIB}/{3 * MIB}"
    assert part.headers["Content-Length"] == "2"
    beyond = caller.http.get(url, headers={"Range": f"bytes={3 * MIB}-"})
    assert (beyond.status_code, beyond.json()["code"]) == (416, "range-not-satisfiable")
    assert beyond.headers["Content-Range"] == f"bytes */{3 * MIB}"
    known = caller.http.get(url, headers={"If-None-Match": head.headers["ETag"]})
    assert (known.status_code, known.content) == (304, b"")
    with caller.another(new_api_key(TenantFactory())) as stranger:
        assert stranger.http.get(url).json()["code"] == "not-found"


def test_a_download_that_was_cut_is_resumed_to_the_same_bytes(caller):
    job, url = made(caller, 5, "five")
    with caller.http.stream("GET", url) as response:
        begun = next(response.iter_raw())
        tag = response.headers["ETag"]
    rest = caller.http.get(url, headers={"Range": f"bytes={len(begun)}-", "If-Range": tag})
    assert rest.status_code == 206
    assert hashlib.sha256(begun + rest.content).hexdigest() == job["result"]["sha256"]


def test_stalled_downloads_leave_threads_for_other_requests_and_free_them_at_disconnect(caller):
    _, url = made(caller, LARGE, "large")
    with caller.http.stream("GET", url), caller.http.stream("GET", url):
        refused = caller.http.get(url, headers={"Range": "bytes=0-0"})
        assert (refused.status_code, refused.json()["code"]) == (503, "service-unavailable")
        assert int(refused.headers["Retry-After"]) > 0
        for _ in range(20):
            assert caller.http.get("/v1/jobs").status_code == 200
    until(lambda: caller.http.get(url, headers={"Range": "bytes=0-0"}).status_code == 206, pause_seconds=POLL_SECONDS)


def test_a_worker_killed_while_it_writes_leaves_nothing_and_another_attempt_makes_the_file(caller):
    job, url = made(caller, 3, "killed-writing", dies_at=2)
    assert (job["attempt"], JobArtifact.objects.get(job_id=job["id"]).attempt, count_orphaned_files()) == (2, 2, 0)
    assert caller.http.get(url).content == b"".join(map(piece, range(3)))


def test_a_worker_killed_between_storing_and_publishing_leaves_one_file_for_the_purge(stack, caller):
    stack.kill("worker")
    stack.start_workers("worker", FAULT_POINT="before_artifact:1:kill")
    job, url = made(caller, 3, "killed-publishing")
    assert job["attempt"] == 2
    assert caller.http.get(url).content == b"".join(map(piece, range(3)))
    row = JobArtifact.objects.get(job_id=job["id"])
    assert (row.attempt, count_orphaned_files()) == (2, 1)
    before = files()
    age_orphaned_files()
    assert purge.run_once().files_deleted == 1
    assert files() < before
    assert row.storage_name in files()
    assert count_orphaned_files() == 0


def files():
    """The names of all files in storage."""
    root = Path(settings.STORAGES["artifacts"]["OPTIONS"]["location"])
    return {str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()}
