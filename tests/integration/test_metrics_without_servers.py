"""`/metrics` while PostgreSQL or Redis is down: the remaining metrics, in bounded time, and which server is down."""

from __future__ import annotations

import subprocess
import sys
import time

import httpx2
import pytest
from django.db import OperationalError, connection
from rest_framework.test import APIClient

from devstack.ports import free_port
from devstack.processes import ROOT
from observability.metrics import database_metrics
from tests.contract.test_unavailable import with_database_at
from tests.support.metrics import read
from tests.support.stack import database_url

pytestmark = pytest.mark.django_db(transaction=True)

TOKEN = "a-scraper's-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
# Prometheus gives a scrape ten seconds.
SCRAPE_SECONDS = 10


@pytest.fixture(autouse=True)
def _token(settings):
    settings.METRICS_TOKEN = TOKEN


def scrape():
    began_at = time.monotonic()
    answer = APIClient(headers=BEARER).get("/metrics")
    assert time.monotonic() - began_at < SCRAPE_SECONDS
    assert answer.status_code == 200
    return read(answer.content.decode())


def test_without_the_database_process_metrics_remain():
    found = with_database_at(free_port(), scrape)
    assert found.of("semel_up", component="postgres") == 0
    assert found.of("semel_up", component="redis") == 1
    assert found.has("semel_job_transitions_total")
    assert found.has("semel_broker_queue_messages")
    assert not found.has("semel_jobs")
    assert not found.has("semel_queue_oldest_due_age_seconds")


def test_without_the_broker_database_metrics_remain(settings):
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    found = scrape()
    assert found.of("semel_up", component="redis") == 0
    assert found.of("semel_up", component="postgres") == 1
    assert not found.has("semel_broker_queue_messages")
    assert found.has("semel_jobs")


def test_a_slow_query_costs_only_its_own_metrics(monkeypatch, settings):
    def slow(**_):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(60)")

    settings.METRICS_STATEMENT_TIMEOUT_MS = 1000
    monkeypatch.setattr(database_metrics, "due_jobs", slow)
    found = scrape()
    assert found.of("semel_scrape_question_failed", question="due") == 1
    assert found.of("semel_scrape_question_failed", question="live") == 0
    assert not found.has("semel_queue_due_jobs")
    assert found.has("semel_jobs")
    assert found.of("semel_up", component="postgres") == 1


def test_the_statement_timeout_applies_only_to_the_scrape(settings):
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        before = cursor.fetchone()
        scrape()
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == before
    with (
        pytest.raises(OperationalError),
        database_metrics.statement_timeout(milliseconds=20),
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT pg_sleep(60)")


# --- A host without an api ---------------------------------------------------------------------------------------------


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Start `manage.py serve_metrics` for a folder in which one process has counted a sweep; return its address."""
    monkeypatch.setenv("METRICS_TOKEN", TOKEN)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "metrics"))
    monkeypatch.setenv("DATABASE_URL", database_url())
    subprocess.run([sys.executable, "manage.py", "sweep"], cwd=ROOT, check=True, capture_output=True)
    command = [sys.executable, "manage.py", "serve_metrics", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as served:
        yield served.stdout.readline().strip()
        served.kill()


def test_serve_metrics_reports_the_processes_of_its_host(page):
    with httpx2.Client(trust_env=False) as client:
        assert client.get(page).status_code == 401
        assert client.get(page.replace("/metrics", "/other"), headers=BEARER).status_code == 404
        answer = client.get(page, headers=BEARER)
    found = read(answer.text)
    assert found.of("semel_sweep_duration_seconds_count") == 1
    assert found.of("semel_sweep_last_finished_timestamp_seconds") > 0
    assert not found.has("semel_jobs"), "only an api reports database metrics"


@pytest.mark.parametrize("missing", ["METRICS_TOKEN", "PROMETHEUS_MULTIPROC_DIR"])
def test_serve_metrics_refuses_to_start_without_token_or_folder(monkeypatch, tmp_path, missing):
    monkeypatch.setenv("METRICS_TOKEN", TOKEN)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setenv(missing, "")
    command = [sys.executable, "manage.py", "serve_metrics", "--port", "0"]
    ended = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert missing in ended.stderr
