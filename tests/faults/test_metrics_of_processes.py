"""One scrape tells of all processes of a host, exactly: api workers, pool children, and those that were killed."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import httpx2
import psutil
import pytest

from tests.support.metrics import read
from tests.support.stack import POLL_SECONDS, SHORT_LEASE, running_stack
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

TOKEN = "a-scraper's-token"
MOVES, KEYED = "semel_job_transitions_total", "semel_idempotency_requests_total"
CLIENTS = 8


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    env = {
        **SHORT_LEASE,
        "METRICS_TOKEN": TOKEN,
        "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics"),
        "OPERATIONS": "tests.support.operations.Quick,tests.support.operations.Poison",
    }
    with django_db_blocker.unblock(), running_stack(folder, **env) as stack:
        stack.start_workers("worker", "maintenance", "beat")
        stack.start_api()
        yield stack


@pytest.fixture
def scrape(stack):
    """What each of the api's workers says; fails where they differ."""

    def read_all():
        seen = [_scrape(stack.urls["api"]) for _ in range(6)]
        told = [
            {key: value for key, value in one.samples.items() if key[0] in (MOVES, KEYED)} for one in seen
        ]
        assert all(one == told[0] for one in told)
        return seen[-1]

    return read_all


def _scrape(url):
    # A connection of its own: the kernel gives it to any of the workers.
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx2.Client(trust_env=False, headers=headers) as client:
        return read(client.get(f"{url}/metrics").raise_for_status().text)


def submit(caller, keys, operation="test.quick"):
    """One request for each key, and its repeat."""

    def ask(key):
        body = {"operation": operation, "params": {}}
        for _ in range(2):
            answer = caller.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": key})
            assert answer.status_code == 202

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(ask, keys))


def children(stack, name):
    return psutil.Process(stack.running[name].popen.pid).children()


def files(stack):
    return sorted(file.name for file in (stack.folder / "metrics").glob("*.db"))


def settled(figures, **expected):
    """Whether the figures have come to these: a worker counts after its commit, by which a client sees the end first."""
    return all(figures.of(MOVES, event=event) == count for event, count in expected.items())


def test_counts_are_exact_whoever_counts_and_whoever_is_killed(stack, caller, scrape):
    submit(caller, [f"first-{number}" for number in range(40)])
    submit(caller, ["poison"], operation="test.poison")
    caller.when_ended(41, seconds=120, stack=stack)
    # The poison killed the child that ran it, three times: what it had counted by then counts on.
    expected = {"submit": 41, "claim": 43, "succeed": 40, "expire": 3}
    until(lambda: settled(_scrape(stack.urls["api"]), **expected), seconds=30, pause_seconds=POLL_SECONDS)
    figures = scrape()
    assert figures.of(KEYED, outcome="first") == 41
    assert figures.of(KEYED, outcome="replayed") + figures.of(KEYED, outcome="waited") == 41
    assert figures.of("semel_http_requests_total", method="POST", route="/v1/jobs", status="202") == 82
    assert figures.of("semel_sweep_last_finished_timestamp_seconds") > 0
    assert figures.of("semel_up", component="postgres") == figures.of("semel_up", component="redis") == 1
    before = files(stack)

    # Every process that counts is killed without a word, and its successor goes on where it was.
    stack.kill("worker")
    stack.start_workers("worker")
    [victim, *_] = [child for child in children(stack, "api") if "resource_tracker" not in child.cmdline()]
    os.kill(victim.pid, signal.SIGKILL)
    until(
        lambda: len(children(stack, "api")) > 1 and not victim.is_running(),
        seconds=60,
        pause_seconds=POLL_SECONDS,
    )
    until(lambda: settled(_scrape(stack.urls["api"]), **expected), seconds=60, pause_seconds=POLL_SECONDS)

    submit(caller, [f"second-{number}" for number in range(20)])
    caller.when_ended(61, seconds=120, stack=stack)
    expected = {"submit": 61, "claim": 63, "succeed": 60, "expire": 3}
    until(lambda: settled(_scrape(stack.urls["api"]), **expected), seconds=30, pause_seconds=POLL_SECONDS)
    assert scrape().of(KEYED, outcome="first") == 61
    assert len(files(stack)) <= len(before) + 3, "files of the dead pile up"
