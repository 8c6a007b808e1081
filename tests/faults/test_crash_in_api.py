"""An api process that dies, freezes or fails at any point of a request: a retry at another process finds or creates one job."""

from __future__ import annotations

import signal

import httpx2
import pytest

from tests.support.stack import POLL_SECONDS, Caller, running_stack, unless_in_progress
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

# A job is accepted by one statement, or by a transaction if it has a concurrency key.
MEMBERS = {"statement": {}, "transaction": {"concurrency_key": "orders"}}
# Before the commit nothing is kept, and the retry is a first request. After it the retry is a replay.
UNCOMMITTED = {"statement": ("before_key",), "transaction": ("before_key", "before_job", "before_commit")}
COMMITTED = ("after_commit", "before_answer")


def roads(*points):
    """Return each road with its uncommitted points and these."""
    return [(road, point) for road, before in UNCOMMITTED.items() for point in (*before, *points)]


# How long the client waits for a frozen process.
PATIENCE_SECONDS = 3.0


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    with django_db_blocker.unblock(), running_stack(folder) as stack:
        stack.start_workers("worker", "maintenance", "beat")
        stack.start_api()
        yield stack


@pytest.fixture
def doomed(stack, api_key):
    """Return a function that starts another api of one process with this fault point armed. It is killed at the end."""
    callers = []

    def start(fault_point):
        caller = Caller(stack.start_api("doomed", FAULT_POINT=fault_point), api_key)
        callers.append(caller)
        return caller

    yield start
    for caller in callers:
        caller.http.close()
    assert " is reached: " in stack.running["doomed"].log.read_text()
    stack.kill("doomed")


@pytest.mark.parametrize(("road", "point"), roads(*COMMITTED))
def test_a_request_whose_server_was_killed_is_done_once_by_its_retry(ledger, doomed, road, point):
    ledger.members = MEMBERS[road]
    first = doomed(f"{point}:1:kill")
    with pytest.raises(httpx2.TransportError):
        ledger.send("order-1", by=first)
    retry = ledger.send("order-1")
    assert retry.headers["Idempotency-Replayed"] == ("true" if point in COMMITTED else "false")
    ledger.charge("order-1")
    assert ledger.settle()["order-1"]["state"] == "succeeded"


@pytest.mark.parametrize(("road", "point"), roads("before_answer"))
def test_a_request_that_fails_unexpectedly_gets_500_and_is_done_once_by_its_retry(ledger, doomed, road, point):
    ledger.members = MEMBERS[road]
    first = ledger.send("order-1", by=doomed(f"{point}:1:raise"))
    assert (first.status_code, first.json()["code"]) == (500, "internal-error")
    assert first.headers["Content-Type"] == "application/problem+json"
    retry = ledger.send("order-1")
    assert retry.headers["Idempotency-Replayed"] == ("true" if point in COMMITTED else "false")
    ledger.charge("order-1")
    assert ledger.settle()["order-1"]["state"] == "succeeded"


@pytest.mark.parametrize("road", MEMBERS)
def test_a_hint_that_fails_unexpectedly_costs_the_client_nothing(ledger, doomed, road):
    ledger.members = MEMBERS[road]
    ledger.charge("order-1", by=doomed("after_commit:1:raise"))
    assert ledger.settle()["order-1"]["state"] == "succeeded"


@pytest.mark.parametrize("action", ["stop", "hang"])
@pytest.mark.parametrize(
    "place",
    [
        ("statement", "before_key"),
        ("statement", "before_answer"),
        ("transaction", "before_commit"),
        ("transaction", "before_answer"),
    ],
)
def test_a_request_whose_server_froze_is_done_once_by_its_retry(stack, ledger, doomed, place, action):
    road, point = place
    ledger.members = MEMBERS[road]
    first = doomed(f"{point}:1:{action}")
    first.http.timeout = PATIENCE_SECONDS
    with pytest.raises(httpx2.ReadTimeout):
        ledger.send("order-1", by=first)
    until(lambda: " is reached: " in stack.running["doomed"].log.read_text(), seconds=60, pause_seconds=POLL_SECONDS)
    # Until PostgreSQL ends the frozen transaction, its outcome is unknown.
    retry = ledger.send("order-1")
    if point == "before_commit":
        assert (retry.status_code, retry.json()["code"]) == (409, "idempotency-request-in-progress")
        assert int(retry.headers["Retry-After"]) >= 1
        retry = until(lambda: unless_in_progress(ledger.send("order-1")), seconds=60, pause_seconds=POLL_SECONDS)
    assert retry.headers["Idempotency-Replayed"] == ("true" if point in COMMITTED else "false")
    ledger.charge("order-1")
    assert ledger.settle()["order-1"]["state"] == "succeeded"


def test_a_request_that_continues_after_its_retry_was_accepted_writes_nothing(stack, ledger, doomed):
    first = doomed("before_key:1:stop")
    first.http.timeout = PATIENCE_SECONDS
    with pytest.raises(httpx2.ReadTimeout):
        ledger.send("order-1", by=first)
    until(lambda: " is reached: " in stack.running["doomed"].log.read_text(), seconds=60, pause_seconds=POLL_SECONDS)
    ledger.charge("order-1")
    stack.signal("doomed", signal.SIGCONT)
    first.http.timeout = 60.0
    ledger.charge("order-1", by=first)
    # Both this request and the one that was frozen found the key taken.
    key = lambda: ledger.caller.http.get("/v1/idempotency-keys/order-1").raise_for_status().json()  # noqa: E731
    until(lambda: key()["replays"] == 2, seconds=60, pause_seconds=POLL_SECONDS)
    assert ledger.settle()["order-1"]["state"] == "succeeded"
