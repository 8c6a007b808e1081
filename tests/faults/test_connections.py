"""Thousands of connections to the api as it is shipped: open ones that are idle, and requests that all start at once."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from foundation.open_files import allow_connections
from jobs.models import Job
from tests.bench.connections import burst
from tests.support.stack import running_stack

pytestmark = pytest.mark.django_db(transaction=True)

# More than granian's own limit of 1,024.
OPEN = 2_500
REQUESTS, KEYS = 2_000, 400


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("connections")
    with django_db_blocker.unblock(), running_stack(folder, API_WORKERS="2") as stack:
        stack.start_api()
        yield stack


@pytest.fixture
def connect(stack):
    """Open a connection to the api; all are closed at the end."""
    url = urlsplit(stack.urls["api"])
    allow_connections(OPEN)
    with ExitStack() as connections:
        yield lambda: connections.enter_context(socket.create_connection((url.hostname, url.port), timeout=20))


def send(connection):
    connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")


def status(connection):
    return connection.recv(2**12).split(b" ")[1]


def test_idle_connections_stay_open_and_keep_nobody_out(connect):
    connections = [connect() for _ in range(OPEN)]
    for _ in range(2):
        newcomer = connect()
        send(newcomer)
        assert status(newcomer) == b"204"
        for connection in connections:
            send(connection)
        assert {status(connection) for connection in connections} == {b"204"}


def test_requests_that_start_at_once_are_all_answered(stack, api_key):
    found = burst(stack.urls["api"], api_key, requests=REQUESTS, keys=KEYS)
    assert (found.connected, found.answered, found.errors) == (REQUESTS, REQUESTS, {})
    assert (found.jobs, found.keys_with_different_answers) == (KEYS, 0)
    assert Job.objects.count() == KEYS
