"""One scrape reports all processes of a host exactly: api workers, pool children, and killed ones."""

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
TRANSITIONS, KEYED = "semel_job_transitions_total", "semel_idempotency_requests_total"
CLIENTS = 8


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("metrics")
    env = {
        **SHORT_LEASE,
        "API_WORKERS": "2",
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
    """Return a function that scrapes every api worker, and fails if they differ."""

    def read_all():
        seen = [_scrape(stack.urls["api"]) for _ in range(6)]
        counted = [{key: value for key, value in one.samples.items() if key[0] in (TRANSITIONS, KEYED)} for one in seen]
        assert all(one == counted[0] for one in counted)
        return seen[-1]

    return read_all


def _scrape(url):
    # A new connection each time: the kernel gives it to any of the workers.
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx2.Client(trust_env=False, headers=headers) as client:
        return read(client.get(f"{url}/metrics").raise_for_status().text)


def submit(caller, keys, operation="test.quick"):
    """Send one request for each key, and repeat it."""

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


def settled(metrics, **expected):
    """Return whether the metrics have these values: a worker counts after its commit, so a client sees the end earlier."""
    return all(metrics.of(TRANSITIONS, event=event) == count for event, count in expected.items())


def test_counts_are_exact_over_all_processes_including_killed_ones(stack, caller, scrape):
    submit(caller, [f"first-{number}" for number in range(40)])
    submit(caller, ["poison"], operation="test.poison")
    caller.when_ended(41, seconds=120, stack=stack)
    # The poison job killed the child that ran it, three times. What those children had counted remains.
    expected = {"submit": 41, "claim": 43, "succeed": 40, "expire": 3}
    until(lambda: settled(_scrape(stack.urls["api"]), **expected), seconds=30, pause_seconds=POLL_SECONDS)
    metrics = scrape()
    assert metrics.of(KEYED, outcome="first") == 41
    assert metrics.of(KEYED, outcome="replayed") + metrics.of(KEYED, outcome="waited") == 41
    assert metrics.of("semel_http_requests_total", method="POST", route="/v1/jobs", status="202") == 82
    assert metrics.of("semel_sweep_last_finished_timestamp_seconds") > 0
    assert metrics.of("semel_up", component="postgres") == metrics.of("semel_up", component="redis") == 1
    before = files(stack)

    # Kill every counting process. Its successor continues with its counts.
    stack.kill("worker")
    stack.start_workers("worker")
    [victim, *_] = [child for child in children(stack, "api") if "resource_tracker" not in child.cmdline()]
    os.kill(victim.pid, signal.SIGKILL)
    until(lambda: len(children(stack, "api")) > 1 and not victim.is_running(), seconds=60, pause_seconds=POLL_SECONDS)
    until(lambda: settled(_scrape(stack.urls["api"]), **expected), seconds=60, pause_seconds=POLL_SECONDS)

    submit(caller, [f"second-{number}" for number in range(20)])
    caller.when_ended(61, seconds=120, stack=stack)
    expected = {"submit": 61, "claim": 63, "succeed": 60, "expire": 3}
    until(lambda: settled(_scrape(stack.urls["api"]), **expected), seconds=30, pause_seconds=POLL_SECONDS)
    assert scrape().of(KEYED, outcome="first") == 61
    assert len(files(stack)) <= len(before) + 3, "files of dead processes pile up"
