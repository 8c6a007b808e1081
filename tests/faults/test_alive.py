"""Health checks of processes without a port: what hangs or has ended is told from what merely has nothing to do."""

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
def signs(tmp_path):
    return tmp_path / "signs"


@pytest.fixture
def stack(db, transactional_db, tmp_path, signs):
    with running_stack(tmp_path, ALIVE_DIR=str(signs), WORKER_PROCESSES="1") as stack:
        yield stack


def check(kind, signs, *, max_age="5"):
    """Ask the way a container's health check asks: (exit code, what it says)."""
    command = [sys.executable, "-m", "observability.liveness", kind, "--max-age", max_age]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "ALIVE_DIR": str(signs)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def becomes(code, kind, signs):
    return until(lambda: (said := check(kind, signs))[0] == code and said[1], seconds=60, pause_seconds=0.2)


def new_sign(kind, signs, *, seconds=30):
    before = (signs / kind).read_text()
    until(lambda: (signs / kind).read_text() != before, seconds=seconds, pause_seconds=0.1)


def test_idle_processes_stay_alive_and_stopped_ones_do_not(stack, signs):
    assert check("worker", signs) == (1, f"worker has left no sign of life in {signs}.\n")
    stack.start_streams()
    stack.start_workers("worker", "maintenance", "beat")
    kinds = ("streams", "worker", "maintenance", "beat")
    for kind in kinds:
        becomes(0, kind, signs)
    # With nothing to do each goes on leaving signs.
    for kind in kinds:
        new_sign(kind, signs)
        new_sign(kind, signs)
        assert check(kind, signs)[0] == 0
    assert not Job.objects.exists()
    for kind in ("worker", "streams"):
        stack.signal(kind, signal.SIGSTOP)
        assert "went round" in becomes(1, kind, signs)
        stack.signal(kind, signal.SIGCONT)
        becomes(0, kind, signs)
    stack.kill("beat")
    assert check("beat", signs, max_age="3600")[0] == 1
    assert "has ended" in check("beat", signs, max_age="3600")[1]


def test_a_worker_without_a_free_place_is_busy_and_alive(stack, signs, api_key):
    stack.start_api()
    stack.start_workers("worker")
    becomes(0, "worker", signs)
    caller = Caller(stack.urls["api"], api_key)
    with caller.http:
        body = {"operation": "demo.sleep", "params": {"seconds": 40}}
        for number in range(2):
            answer = caller.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": str(number)})
            assert answer.status_code == 202, answer.text
        caller.job_when(answer.json()["links"]["self"], "queued")
        until(lambda: Job.objects.filter(state="running").exists(), seconds=30)
        new_sign("worker", signs)
        new_sign("worker", signs)
        assert Job.objects.filter(state="running").count() == 1


def test_a_worker_whose_broker_answers_nothing_is_not_alive(stack, signs):
    with broker_proxy(settings.REDIS_URL) as proxy:
        stack.start_workers("worker", REDIS_URL=proxy.url)
        becomes(0, "worker", signs)
        proxy.fall_silent()
        becomes(1, "worker", signs)
        proxy.come_back()
        becomes(0, "worker", signs)
