"""Workers that must stop, that cannot stop, and that their jobs kill: no job is lost, and no slot of a worker."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from datetime import timedelta

import pytest
from django.conf import settings
from django.db.models.functions import Now

from jobs.models import Job, JobAttempt
from jobs.states import State
from tests.support.promises import assert_nothing_is_left_over
from tests.support.stack import POLL_SECONDS, running_stack
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

LEASE_SECONDS, SOFT_SHUTDOWN_SECONDS = 7, 8
ENV = {
    "PAYMENT_PROVIDER_TIMEOUT_SECONDS": "2",
    "EFFECT_TIMEOUT_SECONDS": "4",
    "LEASE_SECONDS": str(LEASE_SECONDS),
    "HEARTBEAT_SECONDS": "0.5",
    "ATTEMPT_MARGIN_SECONDS": "0.5",
    "LOST_LEASE_EXIT_SECONDS": "0.5",
    "BACKOFF_MAX_SECONDS": "0.5",
    "WORKER_SOFT_SHUTDOWN_SECONDS": str(SOFT_SHUTDOWN_SECONDS),
}
# Until a worker has ended after a stop signal: its soft shutdown, and a reserve for a busy machine.
ENDED_SECONDS = 60.0


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker, tmp_path_factory):
    operations = ",".join(
        [
            *settings.OPERATIONS,
            *(f"tests.support.operations.{name}" for name in ("Stuck", "Poison", "PoisonousCharge", "Patient", "Deaf")),
        ]
    )
    folder = tmp_path_factory.mktemp("stopped")
    with (
        django_db_blocker.unblock(),
        running_stack(folder, "--slow-seconds", "1", **ENV, OPERATIONS=operations) as stack,
    ):
        stack.start_workers("worker", "maintenance", "beat")
        stack.start_api()
        yield stack


def submit(caller, key, operation, **params):
    body = {"operation": operation, "params": params}
    return caller.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": key}).headers["Location"]


def history(caller, address):
    return [event["type"] for event in caller.http.get(f"{address}/events").json()["data"]]


def test_a_job_that_kills_its_worker_ends_after_its_attempts_and_delays_no_other(stack, caller):
    poison = submit(caller, "poison", "test.poison")
    good = [submit(caller, f"good-{number}", "demo.sleep", seconds=0) for number in range(20)]
    for address in good:
        caller.job_when(address, "succeeded")
    job = caller.job_when(poison, "failed")
    assert (job["attempt"], job["attempts_left"]) == (3, 0)
    assert job["error"]["code"] == "attempts-exhausted"
    assert history(caller, poison) == ["submit", *["claim", "expire"] * 3]


def test_a_job_that_kills_its_worker_in_an_effect_ends_unknown_after_one_reconcile_only_attempt(stack, caller):
    poison = submit(caller, "poison", "test.poisonous_charge")
    job = caller.job_when(poison, "unknown")
    assert (job["attempt"], job["attempts_left"]) == (3, 0)
    assert job["error"]["code"] == "outcome-unknown"
    assert history(caller, poison) == ["submit", *["claim", "expire"] * 2, "claim", "doubt"]


def test_an_attempt_that_does_not_stop_is_killed_with_its_process(stack, caller):
    stuck = [submit(caller, f"stuck-{number}", "test.stuck") for number in range(4)]
    for address in stuck:
        job = caller.job_when(address, "failed")
        assert (job["attempt"], job["error"]["cause"]) == (1, "lease-expired")
    caller.job_when(submit(caller, "after", "demo.sleep", seconds=0), "succeeded")


def test_a_stopping_worker_postpones_its_job_without_charging_an_attempt(stack, caller):
    address = submit(caller, "long", "demo.sleep", seconds=600)
    caller.job_when(address, "running")
    stop_worker(stack)
    # It has claimed no other job meanwhile.
    job = caller.http.get(address).json()
    assert (job["state"], job["attempt"], job["attempts_left"]) == ("queued", 1, 5)
    stack.start_workers("worker")
    caller.job_when(address, "running")
    assert caller.http.post(f"{address}/cancel").status_code == 200
    job = caller.job_when(address, "canceled")
    assert history(caller, address) == ["submit", "claim", "postpone", "claim", "cancel-requested", "canceled"]
    assert_nothing_is_left_over()


def test_a_stopping_worker_completes_the_call_that_has_begun(stack, caller):
    address = caller.charge("slow", "tok_slow").headers["Location"]
    until(lambda: caller.http.get(address).json()["effects"], seconds=60, pause_seconds=POLL_SECONDS)
    stop_worker(stack)
    stack.start_workers("worker")
    job = caller.job_when(address, "succeeded")
    assert stack.provider.outcomes(f"semel-{job['id']}-charge-1") == ["charged"]
    assert job["attempts_left"] == 4
    assert "expire" not in history(caller, address)
    assert_nothing_is_left_over()


def test_a_job_that_ignores_the_stop_is_killed_with_its_worker_and_done_by_another(stack, caller):
    address = submit(caller, "deaf", "test.deaf")
    until(lambda: caller.http.get(address).json()["progress"], seconds=60, pause_seconds=POLL_SECONDS)
    stop_as_a_container(stack)
    stack.start_workers("worker")
    caller.job_when(address, "succeeded")
    assert history(caller, address) == ["submit", "claim", "expire", "claim", "succeed"]


def test_the_heartbeat_alone_extends_the_lease_and_delivers_a_cancel_request(caller):
    address = submit(caller, "patient", "test.patient")
    caller.job_when(address, "running")
    job_id = address.rpartition("/")[2]
    # The first lease expired one lease length ago.
    old = JobAttempt.objects.filter(job_id=job_id, started_at__lt=Now() - 2 * timedelta(seconds=LEASE_SECONDS))
    until(old.exists, seconds=60, pause_seconds=POLL_SECONDS)
    assert Job.objects.filter(pk=job_id, state=State.RUNNING, attempt=1, lease_expires_at__gt=Now()).exists()
    assert caller.http.post(f"{address}/cancel").status_code == 200
    caller.job_when(address, "canceled")
    assert history(caller, address) == ["submit", "claim", "cancel-requested", "canceled"]


def stop_worker(stack):
    """Send SIGTERM to the worker and wait until it has ended by itself."""
    worker = stack.running["worker"]
    worker.popen.send_signal(signal.SIGTERM)
    until(lambda: worker.has_ended, seconds=ENDED_SECONDS, pause_seconds=POLL_SECONDS)


def stop_as_a_container(stack):
    """Send SIGTERM to the worker, and kill it if it has not ended within the grace."""
    worker = stack.running["worker"].popen
    worker.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        worker.wait(SOFT_SHUTDOWN_SECONDS + 10)
    stack.kill("worker")
