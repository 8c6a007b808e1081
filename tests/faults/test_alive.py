"""Health checks of processes without a port: idle and busy ones are alive, hanging and ended ones are not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from jobs.models import Job
from tests.support.broker_proxy import broker_proxy
from tests.support.stack import Caller, running_stack
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "liveness"


@pytest.fixture
def stack(db, transactional_db, tmp_path, folder):
    with running_stack(tmp_path, ALIVE_DIR=str(folder), WORKER_PROCESSES="1") as stack:
        yield stack


def check(kind, folder, *, max_age="5"):
    """Run the health check of a container: (exit code, output)."""
    command = [sys.executable, "-m", "observability.liveness", kind, "--max-age", max_age]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "ALIVE_DIR": str(folder)}, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


def becomes(code, kind, folder):
    return until(lambda: (result := check(kind, folder))[0] == code and result[1], seconds=60, pause_seconds=0.5)


def wait_for_touch(kind, folder, *, seconds=30):
    before = (folder / kind).read_text()
    until(lambda: (folder / kind).read_text() != before, seconds=seconds, pause_seconds=0.1)


def test_idle_processes_stay_alive_and_stopped_ones_do_not(stack, folder):
    assert check("worker", folder) == (1, f"worker has no liveness file in {folder}.\n")
    stack.start_streams()
    stack.start_workers("worker", "maintenance", "beat")
    kinds = ("streams", "worker", "maintenance", "beat")
    for kind in kinds:
        becomes(0, kind, folder)
    # Idle processes keep touching their files.
    for kind in kinds:
        wait_for_touch(kind, folder)
        wait_for_touch(kind, folder)
        assert check(kind, folder)[0] == 0
    assert not Job.objects.exists()
    for kind in ("worker", "streams"):
        stack.signal(kind, signal.SIGSTOP)
        assert "was last alive" in becomes(1, kind, folder)
        stack.signal(kind, signal.SIGCONT)
        becomes(0, kind, folder)
    stack.kill("beat")
    assert check("beat", folder, max_age="3600")[0] == 1
    assert "has ended" in check("beat", folder, max_age="3600")[1]


def test_a_busy_worker_without_a_free_slot_is_alive(stack, folder, api_key):
    stack.start_api()
    stack.start_workers("worker")
    becomes(0, "worker", folder)
    caller = Caller(stack.urls["api"], api_key)
    with caller.http:
        body = {"operation": "demo.sleep", "params": {"seconds": 40}}
        for number in range(2):
            answer = caller.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": str(number)})
            assert answer.status_code == 202, answer.text
        caller.job_when(answer.json()["links"]["self"], "queued")
        until(lambda: Job.objects.filter(state="running").exists(), seconds=30)
        wait_for_touch("worker", folder)
        wait_for_touch("worker", folder)
        assert Job.objects.filter(state="running").count() == 1


def test_a_worker_whose_broker_does_not_answer_is_not_alive(stack, folder):
    with broker_proxy(settings.REDIS_URL) as proxy:
        stack.start_workers("worker", REDIS_URL=proxy.url)
        becomes(0, "worker", folder)
        proxy.fall_silent()
        becomes(1, "worker", folder)
        proxy.come_back()
        becomes(0, "worker", folder)
