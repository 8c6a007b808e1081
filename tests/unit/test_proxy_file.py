"""deploy/nginx.conf agrees with the application where it repeats its problems and limits."""

from __future__ import annotations

import json
import re

import pytest
import uvicorn
from django.conf import settings

from api.problem_catalogue import PROBLEMS
from devstack import services
from tests.support.client import PROBLEM_MEMBERS
from tests.support.compose import ROOT, compose

TEXT = (ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8")
DOCUMENTS = [
    (int(status), json.loads(document)) for status, document in re.findall(r"return (\d{3}) '(\{.*\})';", TEXT)
]
KIB = 1024


@pytest.mark.parametrize(("status", "document"), DOCUMENTS, ids=[document["code"] for _, document in DOCUMENTS])
def test_the_proxys_problems_match_the_catalogue(status, document):
    problem = PROBLEMS[document["code"]]
    assert document.keys() == PROBLEM_MEMBERS
    assert (document["status"], status) == (problem.status, problem.status)
    assert (document["title"], document["retryable"]) == (problem.title, problem.retryable)
    assert document["type"] == f"$semel_base/problems/{document['code']}"
    if problem.retryable:
        assert document["detail"] == problem.advice


def test_each_error_of_the_proxy_has_a_problem():
    assert sorted(document["status"] for _, document in DOCUMENTS) == [400, 404, 405, 413, 431, 503]
    handled = {int(code) for line in re.findall(r"error_page ([\d ]+)", TEXT) for code in line.split()}
    assert handled >= {400, 404, 405, 413, 414, 494, 500, 502, 503, 504}


def test_the_proxys_limits_match_the_settings():
    assert f"client_max_body_size {settings.DATA_UPLOAD_MAX_MEMORY_SIZE // KIB}k;" in TEXT
    assert f"larger than {settings.DATA_UPLOAD_MAX_MEMORY_SIZE} bytes" in TEXT
    count, size = map(int, re.findall(r"large_client_header_buffers (\d+) (\d+)k;", TEXT)[0])
    assert count * size * KIB == settings.HEADERS_MAX_BYTES


def test_the_proxys_timeouts_are_longer_than_the_applications():
    seconds = {name: int(value) for name, value in re.findall(r"\b(\w+) (\d+)s;", TEXT)}
    waits = [int(value) for value in re.findall(r"proxy_buffering off;\s+proxy_read_timeout (\d+)s;", TEXT)]
    assert len(waits) == 2
    assert min(waits) > max(60, settings.SSE_KEEPALIVE_SECONDS)
    assert seconds["send_timeout"] > settings.STREAMS_SEND_TIMEOUT_SECONDS


def test_the_proxy_closes_idle_connections_before_the_application_does():
    """Otherwise a request could be sent while its connection is closed, and would get 503."""
    idle = dict(re.findall(r"upstream (\w+) \{[^}]*keepalive_timeout (\d+)s;", TEXT))
    assert int(idle["api"]) < int(services.API_IDLE_MS) / 1000
    assert int(idle["streams"]) < uvicorn.Config("").timeout_keep_alive


def test_each_request_in_progress_may_have_a_connection_on_both_sides():
    requests = int(re.findall(r"limit_conn addresses (\d+);", TEXT)[0])
    connections = int(re.findall(r"worker_connections (\d+);", TEXT)[0])
    files = int(re.findall(r"worker_rlimit_nofile (\d+);", TEXT)[0])
    assert 2 * requests < connections < files <= compose()["services"]["proxy"]["ulimits"]["nofile"]
