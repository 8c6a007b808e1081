"""The streams process over real sockets: reconnects, Redis outages, stops, and clients that misbehave."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from urllib.parse import urlsplit

import httpx2
import psutil
import pytest
from django.conf import settings
from django.db import connection

from jobs import transitions
from jobs.payloads import encode_payload
from jobs.queries.events import append_late_effect
from jobs.services import cancel_job
from tests.support.broker_proxy import broker_proxy
from tests.support.client import CHARGE
from tests.support.event_stream import EventStream
from tests.support.factories import TenantFactory, claim, new_api_key, queued_job
from tests.support.stack import POLL_SECONDS, Caller, running_stack
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

# So long that no poll runs during a test.
NEVER = "3600"
# Only of this database: concurrent tests have processes of the same name on their own databases.
SESSIONS = "pg_stat_activity WHERE application_name = 'semel-streams' AND datname = current_database()"


@pytest.fixture
def owner(transactional_db):
    return TenantFactory()


@pytest.fixture
def api_key(owner):
    return new_api_key(owner)


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("streams")
    with django_db_blocker.unblock(), running_stack(folder, LOG_LEVEL="DEBUG") as stack:
        stack.start_streams("streams", STREAMS_POLL_SECONDS=NEVER)
        stack.start_streams("polling", STREAMS_POLL_SECONDS="0.2", REDIS_URL="redis://127.0.0.1:1/0")
        yield stack


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as pool:
        yield pool


def wait(stack, name, api_key, job, seconds=60):
    """Send `?wait` over its own connection and return the response."""
    with httpx2.Client(trust_env=False, timeout=70) as client:
        headers = {"Authorization": f"Bearer {api_key}"}
        return client.get(f"{stack.urls[name]}/v1/jobs/{job.id}?wait={seconds}", headers=headers)


def count_waiting(stack, name):
    """Return how many requests have waited in this process so far."""
    return stack.running[name].log.read_text(encoding="utf-8").count("streams.waiting")


def begin_waits(pool, stack, name, api_key, *jobs):
    """Begin the requests, wait until all of them wait, and return their futures."""
    before = count_waiting(stack, name)
    answers = [pool.submit(wait, stack, name, api_key, job) for job in jobs]
    until(lambda: count_waiting(stack, name) == before + len(jobs), pause_seconds=POLL_SECONDS)
    return answers


def subscribed(stack, name):
    """Return True if Redis has confirmed the subscription, so that hints arrive."""
    return "streams.subscribed" in stack.running[name].log.read_text(encoding="utf-8")


def connections(stack, name):
    """Return the client ports of this process's open connections."""
    process = psutil.Process(stack.running[name].popen.pid)
    return {one.raddr.port for one in process.net_connections() if one.status == psutil.CONN_ESTABLISHED}


# --- waits ---------------------------------------------------------------------------------------------------------------


def test_a_wakeup_through_redis_answers_waiting_requests(stack, owner, api_key, pool):
    until(lambda: subscribed(stack, "streams"), pause_seconds=POLL_SECONDS)
    jobs = [claim(queued_job(owner).id) for _ in range(4)]
    answers = begin_waits(pool, stack, "streams", api_key, *jobs)
    for job in jobs:
        transitions.succeed_job(job_id=job.id, attempt=1, result=encode_payload(1))
    assert [answer.result().json()["state"] for answer in answers] == ["succeeded"] * 4


def test_without_redis_the_poll_answers_waiting_requests(stack, owner, api_key, pool):
    jobs = [claim(queued_job(owner).id) for _ in range(4)]
    answers = begin_waits(pool, stack, "polling", api_key, *jobs)
    for job in jobs:
        transitions.succeed_job(job_id=job.id, attempt=1, result=encode_payload(1))
    assert [answer.result().json()["state"] for answer in answers] == ["succeeded"] * 4


def test_waiting_requests_hold_neither_threads_nor_database_connections(stack, owner, api_key):
    job = queued_job(owner)
    process = psutil.Process(stack.running["streams"].popen.pid)
    head = f"GET /v1/jobs/{job.id}?wait=60 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {api_key}\r\n\r\n"
    url, before = urlsplit(stack.urls["streams"]), count_waiting(stack, "streams")
    with contextlib.ExitStack() as sockets:
        for _ in range(200):
            one = sockets.enter_context(socket.create_connection((url.hostname, url.port)))
            one.sendall(head.encode())
        until(lambda: count_waiting(stack, "streams") == before + 200, pause_seconds=POLL_SECONDS)
        # The gate's and the reader's threads, and a few of the runtime.
        assert process.num_threads() < 20
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {SESSIONS}")
            # Two processes, each with the gate's threads and a reader.
            assert cursor.fetchone()[0] <= 2 * (settings.STREAMS_THREADS + 1)
        assert len(connections(stack, "streams")) >= 200
    until(lambda: len(connections(stack, "streams")) < 50, pause_seconds=POLL_SECONDS)


def test_the_streams_process_also_answers_plain_requests(stack, owner, api_key):
    caller = Caller(stack.urls["streams"], api_key)
    with caller.http:
        accepted = caller.charge("a-key")
        assert accepted.status_code == 202
        links = accepted.json()["links"]
        assert caller.http.get(links["events"]).json()["data"][0]["type"] == "submit"
        assert caller.http.get("/livez").status_code == 204
        odd = caller.http.get("/nothing?wait=1", headers={"Accept": "text/event-stream"})
        assert (odd.status_code, odd.json()["code"]) == (404, "not-found")
        assert caller.http.get("/v1/jobs/x?wait=1").json()["code"] == "not-found"


def test_a_chunked_body_is_the_same_request_as_an_unchunked_one(stack, api_key):
    caller = Caller(stack.urls["streams"], api_key)
    with caller.http:
        body = httpx2.Request("POST", "http://x", json=CHARGE).content
        headers = {"Idempotency-Key": "a-key", "Content-Type": "application/json"}
        first = caller.http.post("/v1/jobs", content=iter([body[:20], body[20:]]), headers=headers)
        assert first.status_code == 202, first.text
        again = caller.charge("a-key")
        assert (again.headers["Idempotency-Replayed"], again.content) == ("true", first.content)


@pytest.mark.parametrize("chunks", [[b"x" * 300_000], [b"x" * 100_000] * 3])
def test_a_body_over_the_limit_is_refused(stack, api_key, chunks):
    caller = Caller(stack.urls["streams"], api_key)
    with caller.http:
        headers = {"Idempotency-Key": "a-key", "Content-Type": "application/json"}
        content = chunks[0] if len(chunks) == 1 else iter(chunks)
        refused = caller.http.post("/v1/jobs", content=content, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (413, "payload-too-large")
        assert caller.charge("a-key").status_code == 202


def test_an_endless_body_is_read_only_up_to_the_limit(stack, api_key):
    caller = Caller(stack.urls["streams"], api_key)
    with caller.http:
        headers = {"Idempotency-Key": "a-key", "Content-Type": "application/json"}
        # How much the client has sent by then decides whether it gets the response.
        with contextlib.suppress(httpx2.TransportError):
            refused = caller.http.post("/v1/jobs", content=iter([b"x" * 262_144] * 200), headers=headers)
            assert refused.status_code == 413
        assert caller.http.get("/livez").status_code == 204


def test_waiting_requests_survive_cut_database_connections(stack, owner, api_key, pool):
    job, other = claim(queued_job(owner).id), claim(queued_job(owner).id)
    client = EventStream(api_key, other.id)
    reader = Thread(target=client.read, args=[stack.urls["polling"]])
    reader.start()
    until(lambda: client.ids == [1, 2])
    answers = begin_waits(pool, stack, "polling", api_key, job)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_terminate_backend(pid) FROM {SESSIONS}")
        assert cursor.rowcount > 0
    for one in (job, other):
        transitions.succeed_job(job_id=one.id, attempt=1, result=encode_payload(1))
    assert answers[0].result().json()["state"] == "succeeded"
    reader.join()
    assert client.ids == [1, 2, 3]
    client.close()


# --- Redis outages ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["refuse", "fall_silent"])
def test_events_during_a_redis_outage_are_noticed_after_it(tmp_path, owner, api_key, pool, way):
    with (
        broker_proxy(settings.REDIS_URL) as proxy,
        running_stack(tmp_path, REDIS_URL=proxy.url, LOG_LEVEL="DEBUG") as stack,
    ):
        stack.start_streams(STREAMS_POLL_SECONDS=NEVER)
        until(lambda: subscribed(stack, "streams"), pause_seconds=POLL_SECONDS)
        first, second = claim(queued_job(owner).id), claim(queued_job(owner).id)
        answers = begin_waits(pool, stack, "streams", api_key, first, second)
        getattr(proxy, way)()
        if way == "refuse":
            log = stack.running["streams"].log
            until(lambda: "streams.unsubscribed" in log.read_text(), pause_seconds=POLL_SECONDS)
        transitions.succeed_job(job_id=first.id, attempt=1, result=encode_payload(1))
        proxy.come_back()
        assert answers[0].result().json()["state"] == "succeeded"
        # It is subscribed again.
        transitions.succeed_job(job_id=second.id, attempt=1, result=encode_payload(1))
        assert answers[1].result().json()["state"] == "succeeded"


# --- streams -------------------------------------------------------------------------------------------------------------


def test_a_client_that_reconnects_ten_times_gets_every_event_once_and_in_order(stack, owner, api_key):
    """Events arrive meanwhile, by hints or polls, and the client resumes at either process."""
    job, count, piece = claim(queued_job(owner).id), 200, 12
    client = EventStream(api_key, job.id)

    def feed():
        try:
            for number in range(count):
                until(lambda number=number: len(client.ids) > number - 2 * piece)
                append_late_effect(job_id=job.id, attempt=1, data={"number": number})
            transitions.succeed_job(job_id=job.id, attempt=1, result=encode_payload(1))
        finally:
            connection.close()

    feeder = Thread(target=feed)
    feeder.start()
    try:
        for number in range(10):
            assert client.read(stack.urls[["streams", "polling"][number % 2]], count=piece) == 200
        assert client.read(stack.urls["streams"]) == 200
    finally:
        feeder.join()
    assert client.ids == list(range(1, count + 4))
    numbers_received = [event["data"]["number"] for event in client.events if event["type"] == "late-effect"]
    assert numbers_received == list(range(count))
    # The end was received, so the client need not reconnect.
    assert client.read(stack.urls["polling"]) == 204
    client.close()


def test_a_quiet_stream_carries_keep_alive_comments(tmp_path, owner, api_key):
    with running_stack(tmp_path, SSE_KEEPALIVE_SECONDS="0.1") as stack:
        url = stack.start_streams()
        job = queued_job(owner)
        client = EventStream(api_key, job.id)
        reader = Thread(target=client.read, args=[url])
        reader.start()
        until(lambda: client.comments >= 3)
        cancel_job(tenant_id=owner.id, mode="test", job_id=job.id)
        reader.join()
    assert client.ids == [1, 2]
    client.close()


def test_a_revoked_key_ends_its_stream(tmp_path, owner, api_key):
    with running_stack(tmp_path, STREAMS_REAUTH_SECONDS="0.2", STREAMS_POLL_SECONDS="0.2") as stack:
        url = stack.start_streams()
        client = EventStream(api_key, queued_job(owner).id)
        reader = Thread(target=client.read, args=[url])
        reader.start()
        until(lambda: client.ids == [1])
        assert owner.api_keys.update(revoked_at="2020-01-01T00:00:00Z") == 1
        reader.join(30)
        assert not reader.is_alive()
        assert client.read(url) == 401
    client.close()


def test_a_client_that_does_not_read_is_disconnected(tmp_path, owner, api_key):
    """The history exceeds all buffers; after STREAMS_SEND_TIMEOUT_SECONDS the server closes the connection and frees them."""
    job = claim(queued_job(owner).id)
    for _ in range(250):
        append_late_effect(job_id=job.id, attempt=1, data={"much": "x" * 100_000})
    head = (
        f"GET /v1/jobs/{job.id}/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {api_key}\r\n"
        "Accept: text/event-stream\r\n\r\n"
    )
    with running_stack(tmp_path, STREAMS_SEND_TIMEOUT_SECONDS="1", LOG_LEVEL="DEBUG") as stack:
        url = urlsplit(stack.start_streams())
        with socket.create_connection((url.hostname, url.port)) as silent_client:
            port = silent_client.getsockname()[1]
            silent_client.sendall(head.encode())
            until(lambda: count_waiting(stack, "streams") == 1, pause_seconds=POLL_SECONDS)
            assert port in connections(stack, "streams")
            until(lambda: port not in connections(stack, "streams"), pause_seconds=POLL_SECONDS)
        log = stack.running["streams"].log.read_text()
    assert "ASGI callable returned" not in log
    assert "Traceback" not in log


# --- stops -------------------------------------------------------------------------------------------------------------


def test_a_stop_answers_all_waiting_requests_within_seconds(tmp_path, owner, api_key, pool):
    jobs = [claim(queued_job(owner).id) for _ in range(4)]
    with running_stack(tmp_path, LOG_LEVEL="DEBUG", STREAMS_POLL_SECONDS=NEVER) as stack:
        url = stack.start_streams()
        client = EventStream(api_key, jobs[0].id)
        reader = Thread(target=client.read, args=[url])
        reader.start()
        until(lambda: client.ids == [1, 2])
        answers = begin_waits(pool, stack, "streams", api_key, *jobs)
        began, process = time.monotonic(), stack.running["streams"].popen
        stack.signal("streams", signal.SIGTERM)
        documents = [answer.result() for answer in answers]
        reader.join(30)
        process.wait(30)
        took = time.monotonic() - began
        assert [(one.status_code, one.json()["state"], one.headers["Retry-After"]) for one in documents] == [
            (200, "running", "1")
        ] * 4
        assert took < 5.0, f"the stop took {took:.1f} s"
        log = stack.running["streams"].log.read_text()
        assert "Traceback" not in log
        assert "Cancel" not in log
        # The stream ended after a complete event, and resumes at the next process.
        url = stack.start_streams("next")
        transitions.succeed_job(job_id=jobs[0].id, attempt=1, result=encode_payload(1))
        assert client.read(url) == 200
    assert client.ids == [1, 2, 3]
    client.close()


def test_a_worker_that_ends_a_job_wakes_a_waiting_request(tmp_path, api_key):
    """Submit at the api, wait at the job's link, and let a worker run the job."""
    with running_stack(tmp_path) as stack:
        streams = stack.start_streams(STREAMS_POLL_SECONDS=NEVER)
        caller = Caller(stack.start_api(STREAMS_URL=streams), api_key)
        stack.start_workers("worker")
        with caller.http:
            job = caller.charge("a-key").json()
            assert job["links"]["wait"] == f"{streams}/v1/jobs/{job['id']}?wait=30"
            refused = caller.http.get(f"/v1/jobs/{job['id']}/events", headers={"Accept": "text/event-stream"})
            assert (refused.status_code, refused.json()["streams_url"]) == (406, streams)
            ended = until(lambda: caller.http.get(job["links"]["wait"]).json()["state"] == "succeeded", seconds=60)
            assert ended
