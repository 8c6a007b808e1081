"""`?wait=` and event streams on real rows, without Redis or a clock: the test runs the hub."""

from __future__ import annotations

from importlib import import_module
from uuid import uuid4

import pytest
from django.db import OperationalError
from django.utils import timezone

from accounts.models import ApiKey
from broker.wakeups import JobChange
from jobs import transitions
from jobs.models import Job, JobStep
from jobs.payloads import encode_payload
from jobs.queries.events import append_late_effect
from jobs.services import cancel_job, redrive_job, resolve_job
from jobs.states import State
from streams import hub, rendering, request_gate
from tests.support.factories import TenantFactory, claim, claimed_job, new_api_key, queued_job
from tests.support.scenarios import begin, in_state
from tests.support.streams import streams_application
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _paces(settings):
    # An hour between two polls, so that only the test runs the hub. One thread, whose connection the test can close.
    settings.STREAMS_POLL_SECONDS = settings.SSE_KEEPALIVE_SECONDS = 3600.0
    settings.STREAMS_REAUTH_SECONDS = 0.0
    settings.STREAMS_THREADS = 1


@pytest.fixture
def owner(transactional_db):
    return TenantFactory()


@pytest.fixture
def streams(owner):
    with streams_application(new_api_key(owner)) as streams:
        yield streams


def wait(streams, job, query="?wait=30", **headers):
    return streams.until_waiting(streams.get(f"/v1/jobs/{job.id}{query}", **headers))


def stream(streams, job, query="", **headers):
    return streams.until_waiting(streams.stream(job.id, query, **headers))


def succeed(job):
    transitions.succeed_job(job_id=job.id, attempt=job.attempt, result=encode_payload({"done": True}))


def fail(job):
    transitions.fail_job(job_id=job.id, attempt=job.attempt, detail="no", cause="no")


def doubt(job):
    begin(job, "charge")
    transitions.stop_as_unknown(job_id=job.id, attempt=job.attempt, detail="no reply")


# --- waiting for a job ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("settle", "state"), [(succeed, "succeeded"), (fail, "failed"), (doubt, "unknown")])
def test_a_wait_is_answered_when_the_job_has_settled(streams, owner, settle, state):
    job = claimed_job(owner)
    request = wait(streams, job)
    settle(job)
    streams.poll()
    answer = request.wait()
    assert (answer.status, answer.json()["state"]) == (200, state)
    # It slows down a client that waits in a loop and is answered at once, because the job has settled but not ended.
    assert answer.headers.get("retry-after") == ("60" if state == "unknown" else None)
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.body)


def test_a_wait_is_answered_when_a_queued_job_is_canceled(streams, owner):
    job = queued_job(owner)
    request = wait(streams, job)
    cancel_job(tenant_id=owner.id, mode="test", job_id=job.id)
    streams.poll()
    assert request.wait().json()["state"] == "canceled"


def test_events_before_the_end_do_not_answer_a_wait(streams, owner):
    job = queued_job(owner)
    request = wait(streams, job)
    job = claim(job.id)
    streams.poll()
    streams.until_waiting(request)
    transitions.postpone_job(job_id=job.id, attempt=1, delay=timezone.timedelta(0), detail="later")
    streams.poll()
    streams.until_waiting(request)
    succeed(claim(job.id))
    streams.poll()
    assert request.wait().json()["attempt"] == 2


def test_a_wait_whose_time_is_over_is_answered_with_the_current_job(streams, owner):
    job = queued_job(owner)
    answer = streams.get(f"/v1/jobs/{job.id}?wait=1").wait()
    assert (answer.status, answer.json()["state"], answer.headers["retry-after"]) == (200, "queued", "1")
    assert streams.get(f"/v1/jobs/{job.id}?wait=1", if_none_match=answer.headers["etag"]).wait().status == 304


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.CANCELED, State.UNKNOWN])
def test_a_job_that_has_settled_is_answered_at_once(streams, owner, state):
    answer = streams.get(f"/v1/jobs/{in_state(owner, state).id}?wait=60").wait()
    assert (answer.status, answer.json()["state"]) == (200, state)


def test_a_wait_of_zero_and_a_head_request_are_answered_at_once(streams, owner):
    assert streams.get(f"/v1/jobs/{queued_job(owner).id}?wait=0").wait().json()["state"] == "queued"
    head = streams.get(f"/v1/jobs/{queued_job(owner).id}?wait=60", method="HEAD").wait()
    assert (head.status, head.headers["retry-after"]) == (200, "1")


def test_the_response_equals_that_of_the_api(streams, owner, client):
    job = claimed_job(owner)
    request = wait(streams, job, x_request_id="mine")
    begin(job, "charge")
    transitions.stop_as_unknown(job_id=job.id, attempt=1, detail="no reply")
    streams.poll()
    answer = request.wait()
    headers = {"Authorization": f"Bearer {streams.api_key}", "X-Request-Id": "mine"}
    same = client.get(f"/v1/jobs/{job.id}", headers=headers)
    assert answer.body == same.content
    assert answer.headers == {name.lower(): value for name, value in same.items()}


def test_a_client_that_has_the_settled_job_gets_304(streams, owner, client):
    job = claimed_job(owner)
    request = wait(streams, job, if_none_match='"other"')
    succeed(job)
    streams.poll()
    tag = request.wait().headers["etag"]
    redriven = in_state(owner, State.QUEUED)
    other = wait(streams, redriven, if_none_match=tag)
    cancel_job(tenant_id=owner.id, mode="test", job_id=redriven.id)
    streams.poll()
    assert other.wait().status == 200
    known = streams.get(f"/v1/jobs/{job.id}?wait=9", if_none_match=tag).wait()
    assert (known.status, known.body) == (304, b"")
    assert "content-type" not in known.headers


@pytest.mark.parametrize("query", ["?wait=61", "?wait=-1", "?wait=x", "?wait=", "?wait=1&wait=2", "?weit=1&wait=1"])
def test_an_invalid_wait_is_refused(streams, owner, query):
    answer = streams.get(f"/v1/jobs/{queued_job(owner).id}{query}").wait()
    assert (answer.status, answer.json()["code"]) == (400, "validation-failed")
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_a_hint_wakes_the_waiters_of_its_job_only(streams, owner):
    streams.poll()
    job, other = claimed_job(owner), claimed_job(owner)
    request = wait(streams, job)
    succeed(job)
    seq = Job.objects.get(pk=job.id).event_seq
    streams.call(streams.hub.hint, JobChange(other.id, 9))
    assert not streams.hub._hinted
    streams.call(streams.hub.hint, JobChange(job.id, seq))
    streams.run_hub()
    assert request.wait().json()["state"] == "succeeded"


def test_without_a_hint_no_job_is_read_before_the_poll(streams, owner):
    streams.poll()
    job = claimed_job(owner)
    request = wait(streams, job)
    succeed(job)
    streams.run_hub()
    streams.until_waiting(request)
    streams.poll()
    assert request.wait().status == 200


@pytest.fixture
def statements(monkeypatch):
    """Record the queries that the hub and the batch readers call, and the number of their keys."""
    calls = []
    for place, name in (
        ("streams.hub", "positions_after"),
        ("streams.hub", "live_key_ids"),
        ("streams.rendering", "jobs_by_id"),
        ("streams.rendering", "events_after"),
    ):
        module = import_module(place)
        real = getattr(module, name)

        def counted(*args, _real=real, _name=name, **options):
            calls.append((_name, len(args[0])))
            return _real(*args, **options)

        monkeypatch.setattr(module, name, counted)
    return calls


def test_a_poll_is_one_statement_and_the_responses_are_read_in_batches(statements, streams, owner):
    jobs = [claimed_job(owner) for _ in range(20)]
    requests = [wait(streams, job) for job in jobs] + [wait(streams, jobs[0])]
    assert statements == []
    streams.poll()
    assert statements == [("positions_after", 20), ("live_key_ids", 1)]
    for job in jobs:
        succeed(job)
    statements.clear()
    streams.poll()
    assert [request.wait().status for request in requests] == [200] * 21
    assert statements[0] == ("positions_after", 20)
    # The responses were read in batches, not one by one.
    assert 1 <= sum(name == "jobs_by_id" for name, _ in statements) <= 3
    statements.clear()
    streams.poll()
    assert statements == []


# --- admission --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["?wait=30", "/events"])
def test_a_job_in_another_scope_looks_missing(streams, owner, path):
    accept = {"accept": "text/event-stream"} if path == "/events" else {}
    others = queued_job(TenantFactory()).id
    live = queued_job(owner, mode="live").id
    answers = [streams.get(f"/v1/jobs/{job_id}{path}", **accept).wait() for job_id in (others, live, uuid4())]
    assert {answer.status for answer in answers} == {404}
    assert {answer.json()["detail"] for answer in answers} == {answers[0].json()["detail"]}
    assert {answer.headers["content-type"] for answer in answers} == {"application/problem+json"}
    assert not streams.hub._watched


@pytest.mark.parametrize("path", ["?wait=30", "/events"])
@pytest.mark.parametrize("credential", ["", "Bearer test_x", "Basic x"])
def test_a_request_without_a_valid_credential_is_refused(streams, owner, path, credential):
    answer = streams.get(
        f"/v1/jobs/{queued_job(owner).id}{path}", accept="text/event-stream, */*", authorization=credential
    ).wait()
    assert (answer.status, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("ending", [{"revoked_at": timezone.now()}, {"expires_at": timezone.now()}])
def test_a_revoked_or_expired_key_ends_only_its_own_requests(streams, owner, ending):
    job = claimed_job(owner)
    mine, events = wait(streams, job), stream(streams, job)
    ended = ApiKey.objects.get()
    streams.api_key = new_api_key(owner)
    other = wait(streams, job)
    streams.poll()
    assert [mine.is_answered, events.is_answered] == [False, False]
    ApiKey.objects.filter(pk=ended.pk).update(**ending)
    streams.poll()
    refused = mine.wait()
    assert (refused.status, refused.json()["code"]) == (401, "unauthenticated")
    assert events.wait().seqs == [1, 2]
    streams.until_waiting(other)
    succeed(job)
    streams.poll()
    assert other.wait().json()["state"] == "succeeded"


def test_requests_beyond_the_limit_are_refused_until_one_ends(streams, owner, settings):
    settings.STREAMS_MAX_WAITS = 2
    job = queued_job(owner)
    first = [wait(streams, job), stream(streams, job)]
    for path in ("?wait=30", "/events"):
        refused = streams.get(f"/v1/jobs/{job.id}{path}", accept="text/event-stream, */*").wait()
        assert (refused.status, refused.json()["code"]) == (503, "service-unavailable")
        assert int(refused.headers["retry-after"]) > 0
        assert refused.json()["retryable"] is True
    assert streams.get(f"/v1/jobs/{job.id}?wait=0").wait().status == 200
    first[0].leave()
    first[0].wait()
    again = streams.get(f"/v1/jobs/{job.id}?wait=30")
    until(lambda: len(streams.hub._watched[job.id].waiters) == 2)
    cancel_job(tenant_id=owner.id, mode="test", job_id=job.id)
    streams.poll()
    assert again.wait().json()["state"] == "canceled"


def test_requests_that_do_not_wait_go_to_django(streams, owner):
    job = queued_job(owner)
    for address, headers in {
        f"/v1/jobs/{job.id}": {},
        f"/v1/jobs/{job.id}/events": {"accept": "*/*"},
        f"/v1/jobs/{job.id}/events?wait=1": {},
        "/v1/jobs?wait=1": {},
        "/livez": {"accept": "text/event-stream"},
    }.items():
        assert streams.get(address, **headers).wait().body == b"plain"
    assert streams.get(f"/v1/jobs/{job.id}?wait=9", method="POST").wait().body == b"plain"


# --- streams -------------------------------------------------------------------------------------------------------------


def test_a_stream_sends_every_event_once_and_ends_with_the_job(streams, owner, client):
    job = queued_job(owner)
    events = stream(streams, job)
    assert events.status == 200
    assert events.headers["content-type"] == "text/event-stream"
    assert events.headers["cache-control"] == "no-store"
    assert events.headers["x-accel-buffering"] == "no"
    assert events.headers["x-request-id"]
    job = claim(job.id)
    streams.poll()
    cancel_job(tenant_id=owner.id, mode="test", job_id=job.id)
    succeed(job)
    streams.poll()
    lines = events.wait().body.decode()
    listed = client.get(
        f"/v1/jobs/{job.id}/events", headers={"Authorization": f"Bearer {streams.api_key}"}
    ).content.decode()
    retry, *sent, end = lines.split("\n\n")
    assert retry.startswith("retry: ")
    assert end == ""
    fields = [dict(line.split(": ", 1) for line in event.splitlines()) for event in sent]
    assert [field["id"] for field in fields] == ["1", "2", "3", "4"]
    assert [field["event"] for field in fields] == ["submit", "claim", "cancel-requested", "succeed"]
    assert f'{{"data":[{",".join(field["data"] for field in fields)}],"next_after":null}}' == listed


def test_a_stream_of_an_unknown_job_stays_open_until_it_is_resolved(streams, owner):
    job = claimed_job(owner)
    events = stream(streams, job)
    doubt(job)
    streams.poll()
    until(lambda: events.seqs == [1, 2, 3])
    streams.until_waiting(events)
    resolve_job(
        tenant_id=owner.id,
        mode="test",
        job_id=job.id,
        step="charge",
        verdict=JobStep.State.NOT_DONE,
        then=State.FAILED,
        note="looked",
        by="me",
    )
    streams.poll()
    assert events.wait().seqs == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("query", "headers", "first"),
    [
        ("", {}, 1),
        ("?after=0", {}, 1),
        ("?after=1", {}, 2),
        ("", {"last_event_id": "2"}, 3),
        ("?after=0", {"last_event_id": "2"}, 3),
        ("?after=2", {"last_event_id": ""}, 3),
        ("?after=2", {"last_event_id": "0"}, 1),
    ],
)
def test_a_stream_resumes_after_the_last_event(streams, owner, query, headers, first):
    job = claimed_job(owner)
    succeed(job)
    assert streams.stream(job.id, query, **headers).wait().seqs == list(range(first, 4))


@pytest.mark.parametrize("place", [{"query": "?after=3"}, {"last_event_id": "3"}, {"last_event_id": "99"}])
def test_a_client_that_has_all_events_of_an_ended_job_gets_204(streams, owner, place):
    job = claimed_job(owner)
    succeed(job)
    answer = streams.stream(job.id, **place).wait()
    assert (answer.status, answer.body) == (204, b"")
    # RFC 9110 §8.6: a 204 has no length, not even 0.
    assert not {"content-length", "content-type"} & answer.headers.keys()


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "2147483648", "1,2"])
def test_an_invalid_last_event_id_is_refused(streams, owner, last):
    answer = streams.stream(queued_job(owner).id, last_event_id=last).wait()
    assert (answer.status, answer.json()["code"]) == (400, "validation-failed")
    assert [error["parameter"] for error in answer.json()["errors"]] == ["Last-Event-ID"]


@pytest.mark.parametrize("query", ["limit=5", "wait=5", "after=1&after=2"])
def test_a_parameter_that_streams_do_not_have_is_refused(streams, owner, query):
    answer = streams.stream(queued_job(owner).id, f"?{query}").wait()
    assert (answer.status, answer.json()["code"]) == (400, "validation-failed")
    assert [error["parameter"] for error in answer.json()["errors"]] == [query.partition("=")[0]]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/json;q=0.9, text/event-stream", "text/event-stream"),
        ("text/event-stream, */*", "text/event-stream"),
        ("application/json, text/event-stream;q=0.1", "application/json"),
    ],
)
def test_the_preferred_media_type_is_sent(streams, owner, accept, content_type):
    job = in_state(owner, State.SUCCEEDED)
    answer = streams.get(f"/v1/jobs/{job.id}/events", accept=accept).wait()
    assert (answer.status, answer.headers["content-type"]) == (200, content_type)


def test_a_head_request_for_a_stream_is_answered_at_once(streams, owner):
    job = queued_job(owner)
    answer = streams.get(f"/v1/jobs/{job.id}/events", method="HEAD", accept="text/event-stream").wait()
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, "text/event-stream", b"")


def test_a_long_history_is_sent_completely_in_several_pieces(streams, owner):
    job = claimed_job(owner)
    for number in range(250):
        append_late_effect(job_id=job.id, attempt=1, data={"number": number})
    succeed(job)
    events = streams.stream(job.id).wait()
    assert events.seqs == list(range(1, 254))
    assert len(events.messages) > 4


def test_a_quiet_stream_carries_keep_alive_comments(streams, owner, settings):
    settings.SSE_KEEPALIVE_SECONDS = 0.01
    job = queued_job(owner)
    events = streams.stream(job.id)
    until(lambda: b"\n\n:\n\n" in events.body)
    cancel_job(tenant_id=owner.id, mode="test", job_id=job.id)
    streams.poll()
    assert events.wait().seqs == [1, 2]


# --- races ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noticed_by", ["hint", "poll"])
def test_a_commit_between_the_first_read_and_the_wait_is_noticed(streams, owner, monkeypatch, noticed_by):
    """The request watches the job before the first read, so it notices what the hub reads in between."""
    streams.poll()
    job = claimed_job(owner)
    respond = request_gate.RequestGate._respond

    def read_and_settle(self, *args, **options):
        admitted = respond(self, *args, **options)
        job_now = Job.objects.get(pk=job.id)
        if job_now.state == State.RUNNING:
            succeed(job_now)
            if noticed_by == "hint":
                streams.call(streams.hub.hint, JobChange(job.id, job_now.event_seq + 1))
                streams.run_hub()
            else:
                streams.poll()
        return admitted

    monkeypatch.setattr(request_gate.RequestGate, "_respond", read_and_settle)
    # No poll and no hint follows: the response results from what was noticed before the wait began.
    assert streams.get(f"/v1/jobs/{job.id}?wait=30").wait().json()["state"] == "succeeded"


def test_late_and_doubled_hints_do_not_repeat_an_event(streams, owner, monkeypatch):
    job = queued_job(owner)
    events = stream(streams, job)
    job = claim(job.id)
    streams.poll()
    until(lambda: events.seqs == [1, 2])
    # Late, doubled and out of order: the next events are always read from the database.
    for seq in (2, 1, 2, 3):
        streams.call(streams.hub.hint, JobChange(job.id, seq))
        streams.run_hub()
    streams.poll()
    streams.until_waiting(events)
    succeed(job)
    streams.poll()
    assert events.wait().seqs == [1, 2, 3]


def test_a_stream_of_a_redriven_job_resumes_and_ends_again(streams, owner):
    job = claimed_job(owner)
    fail(job)
    first = streams.stream(job.id).wait()
    assert first.seqs == [1, 2, 3]
    redrive_job(tenant_id=owner.id, mode="test", job_id=job.id)
    events = stream(streams, job, last_event_id="3")
    until(lambda: events.seqs == [4])
    succeed(claim(job.id))
    streams.poll()
    assert events.wait().seqs == [4, 5, 6]


def test_a_deleted_job_ends_the_requests_that_wait_for_it(streams, owner):
    job = queued_job(owner)
    request, events = wait(streams, job), stream(streams, job)
    Job.objects.filter(pk=job.id).delete()
    streams.poll()
    assert request.wait().json()["code"] == "not-found"
    assert events.wait().seqs == [1]


# --- failures -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def failing(monkeypatch):
    """Return a set: queries whose names are in it fail."""
    refused = set()
    for name in ("jobs_by_id", "events_after"):
        real = getattr(rendering, name)

        def ask(*args, _real=real, _name=name, **options):
            if _name in refused:
                raise OperationalError("the connection is lost")
            return _real(*args, **options)

        monkeypatch.setattr(rendering, name, ask)
    return refused


def test_the_api_answers_if_the_batch_read_fails(streams, owner, failing):
    job = claimed_job(owner)
    request = wait(streams, job)
    failing.add("jobs_by_id")
    succeed(job)
    streams.poll()
    answer = request.wait()
    assert (answer.status, answer.json()["state"]) == (200, "succeeded")
    assert answer.headers["etag"]


def test_a_stream_survives_a_database_outage(streams, owner, failing, settings):
    job = claimed_job(owner)
    events = stream(streams, job)
    failing.add("events_after")
    settings.STREAMS_POLL_SECONDS = 0.01
    succeed(job)
    streams.poll()
    until(lambda: events.waits)
    assert not events.is_answered
    failing.clear()
    assert events.wait().seqs == [1, 2, 3]


def test_the_hub_polls_again_after_a_database_error(streams, owner, monkeypatch, settings):
    job = claimed_job(owner)
    request, failures = wait(streams, job), []
    real = hub.positions_after

    def refuse_twice(known):
        if len(failures) < 2:
            failures.append(known)
            raise OperationalError("the connection is lost")
        return real(known)

    monkeypatch.setattr(hub, "positions_after", refuse_twice)
    streams.hub._poll_seconds = 0.01
    running = streams.begin(streams.hub.run())
    succeed(job)
    assert request.wait().json()["state"] == "succeeded"
    assert len(failures) == 2
    running.cancel()


# --- disconnects and stops ------------------------------------------------------------------------------------------------


def test_a_disconnected_request_leaves_no_waiter(streams, owner):
    job = queued_job(owner)
    for request in (wait(streams, job), stream(streams, job)):
        request.leave()
        request.wait()
    assert not streams.hub._watched
    assert streams.application._open == 0


def test_a_stop_answers_every_open_request(streams, owner):
    job = claimed_job(owner)
    request, events = wait(streams, job), stream(streams, job)
    streams.call(streams.hub.close)
    answer = request.wait()
    assert (answer.status, answer.json()["state"], answer.headers["retry-after"]) == (200, "running", "1")
    assert events.wait().seqs == [1, 2]
    assert events.messages[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    # A request during the stop does not wait either.
    assert streams.get(f"/v1/jobs/{job.id}?wait=60").wait().json()["state"] == "running"


def test_a_client_that_does_not_read_is_disconnected(streams, owner, settings):
    settings.STREAMS_SEND_TIMEOUT_SECONDS = 0.01
    job = queued_job(owner)
    events = stream(streams, job)
    streams.call(events.reads.clear)
    claim(job.id)
    streams.poll()
    events.wait()
    assert events.seqs == [1]
    assert not streams.hub._watched


def test_a_stop_does_not_wait_for_a_client_that_does_not_read(streams, owner):
    job = queued_job(owner)
    events = stream(streams, job)
    streams.call(events.reads.clear)
    claim(job.id)
    streams.poll()
    until(lambda: streams.call(lambda: streams.hub._watched[job.id].waiters.copy().pop()._timeout is not None))
    streams.call(streams.hub.close)
    events.wait()
    assert events.seqs == [1]
