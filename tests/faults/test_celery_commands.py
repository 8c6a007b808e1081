"""Celery's own commands against a running stack, as docs/reference/celery.md describes them: they work, and none loses a job."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from datetime import timedelta
from uuid import UUID

import pytest
from django.utils import timezone

from broker.hints import DueJob
from broker.publisher import publisher
from devstack.services import WORKER_QUEUES
from jobs.models import Job
from tests.support.compose import ROOT
from tests.support.factories import TenantFactory, new_api_key
from tests.support.promises import messages
from tests.support.stack import POLL_SECONDS, START_SECONDS, Caller, running_stack
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

WORKER = f"worker@{socket.gethostname()}"
MAINTENANCE = f"maintenance@{socket.gethostname()}"


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    with django_db_blocker.unblock(), running_stack(folder) as stack:
        stack.start_workers("worker", "maintenance", "beat")
        stack.start_api()
        yield stack


@pytest.fixture
def caller(stack, transactional_db):
    caller = Caller(stack.urls["api"], new_api_key(TenantFactory()))
    with caller.http:
        yield caller


def celery(stack, *words):
    """Return the command's output; fail the test if the command fails."""
    finished = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "config", *words],
        cwd=ROOT,
        env=stack.env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def control(stack, *words):
    """Send a control command and wait for the worker's reply, longer than Celery's one second."""
    celery(stack, "control", "--timeout", "20", *words, "-d", WORKER)


def ask(stack, *words):
    """Return each node's reply to `inspect`."""
    return json.loads(celery(stack, "inspect", *words, "--json", "--timeout", "4", "-d", WORKER))[WORKER]


def sleep(caller, key, seconds, **fields):
    body = {"operation": "demo.sleep", "params": {"seconds": seconds}, **fields}
    answer = caller.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": key})
    assert answer.status_code == 202, answer.text
    return answer.headers["Location"]


def stop(caller, address):
    caller.http.post(f"{address}/cancel").raise_for_status()
    caller.job_when(address, "canceled")


def test_inspect_shows_the_workers_and_their_running_jobs(stack, caller):
    address = sleep(caller, "long", 600)
    job = caller.job_when(address, "running")
    [task] = ask(stack, "active")
    assert (task["id"], task["args"], task["name"]) == (job["id"], [job["id"], "default"], "workers.run_job")
    # With a named destination the command does not wait beyond its reply.
    pong = celery(stack, "inspect", "ping", "--timeout", "4", "-d", f"{WORKER},{MAINTENANCE}")
    assert all(f"{node}: OK" in pong for node in (WORKER, MAINTENANCE))
    stats = ask(stack, "stats")
    assert (stats["pool"]["max-concurrency"], stats["prefetch_count"]) == (2, 2)
    stop(caller, address)


def test_a_pool_that_grows_runs_more_jobs_at_once(stack, caller):
    control(stack, "pool_grow", "1")
    addresses = [sleep(caller, f"grown-{number}", 600) for number in range(3)]
    for address in addresses:
        caller.job_when(address, "running")
    for address in addresses:
        stop(caller, address)
    control(stack, "pool_shrink", "1")
    assert ask(stack, "stats")["pool"]["max-concurrency"] == 2


def test_a_worker_consumes_another_queue_and_leaves_it_and_keeps_its_own(stack, caller):
    control(stack, "add_consumer", "reports")
    until(lambda: queues(stack) == {*WORKER_QUEUES.split(","), "reports"}, seconds=START_SECONDS)
    job_id = sleep(caller, "report", 0, run_at=(timezone.now() + timedelta(days=1)).isoformat()).rpartition("/")[2]
    Job.objects.filter(pk=job_id).update(queue="reports", run_at=timezone.now())
    publisher.publish_hint(DueJob(UUID(job_id), "reports"))
    caller.job_when(f"/v1/jobs/{job_id}", "succeeded")
    caller.job_when(sleep(caller, "as-ever", 0), "succeeded")
    control(stack, "cancel_consumer", "reports")
    until(lambda: queues(stack) == {*WORKER_QUEUES.split(",")}, seconds=START_SECONDS)
    caller.job_when(sleep(caller, "still", 0), "succeeded")


def queues(stack):
    return {queue["name"] for queue in ask(stack, "active_queues")}


def test_purging_the_broker_loses_nothing(stack, caller):
    """The messages are gone; the sweep publishes hints of the rows again."""
    stack.kill("worker")
    stack.kill("maintenance")  # so that no hint is published again before all are gone
    addresses = [sleep(caller, f"purged-{number}", 0) for number in range(10)]
    until(lambda: messages() >= 10)
    output = celery(stack, "purge", "--force", "--queues", "high,default,low")
    assert "Purged" in output
    assert messages() == 0
    stack.start_workers("worker", "maintenance")
    for address in addresses:
        job = caller.job_when(address, "succeeded")
        assert job["attempt"] == 1


def test_a_worker_that_is_shut_down_postpones_its_job(stack, caller):
    address = sleep(caller, "given-back", 600)
    caller.job_when(address, "running")
    control(stack, "shutdown")
    job = caller.job_when(address, "queued")
    assert (job["attempt"], job["attempts_left"]) == (1, 5)
    stack.kill("worker")
    stack.start_workers("worker")
    caller.job_when(address, "running")
    stop(caller, address)


def test_events_are_shown_once_they_are_switched_on(stack, caller, tmp_path):
    file = tmp_path / "events.txt"
    with file.open("wb") as output:
        shown = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "config", "events", "--dump"],
            cwd=ROOT,
            env=stack.env,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            control(stack, "enable_events")
            # A worker's heartbeat: from here on every event is received.
            until(lambda: "heartbeat" in file.read_text(), seconds=START_SECONDS, pause_seconds=POLL_SECONDS)
            job = caller.job_when(sleep(caller, "shown", 0), "succeeded")
            until(
                lambda: seen(file, job["id"]) >= {"received", "started", "succeeded"},
                seconds=START_SECONDS,
                pause_seconds=POLL_SECONDS,
            )
        finally:
            shown.kill()
            shown.wait()
            control(stack, "disable_events")


def seen(file, job_id):
    """Return the words that were shown for the job's task."""
    return {word for line in file.read_text().splitlines() if job_id in line for word in line.replace(":", " ").split()}
