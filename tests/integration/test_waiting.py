"""`?wait=` and event streams, with the hub's looks in the test's hand: no clock, no Redis, real rows."""

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
from jobs.queries.history import append_evidence
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
    # Nothing happens by itself: an hour between two looks. One thread, whose connection the test can close.
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
    return streams.held(streams.get(f"/v1/jobs/{job.id}{query}", **headers))


def stream(streams, job, query="", **headers):
    return streams.held(streams.stream(job.id, query, **headers))


def succeed(job):
    transitions.succeed_job(job_id=job.id, attempt=job.attempt, result=encode_payload({"done": True}))


def fail(job):
    transitions.fail_job(job_id=job.id, attempt=job.attempt, detail="no", cause="no")


def doubt(job):
    begin(job, "charge")
    transitions.doubt_job(job_id=job.id, attempt=job.attempt, detail="who knows")


# --- waiting for a job ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("settle", "state"), [(succeed, "succeeded"), (fail, "failed"), (doubt, "unknown")])
def test_a_wait_is_answered_when_the_job_has_settled(streams, owner, settle, state):
    job = claimed_job(owner)
    request = wait(streams, job)
    settle(job)
    streams.tick()
    answer = request.wait()
    assert (answer.status, answer.json()["state"]) == (200, state)
    # A client that waits in a loop is slowed down by it, where the answer comes at once and the job has not ended.
    assert answer.headers.get("retry-after") == ("60" if state == "unknown" else None)
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.body)


def test_a_queued_job_that_is_canceled_is_answered_too(streams, owner):
    job = queued_job(owner)
    request = wait(streams, job)
    cancel_job(tenant_id=owner.id, mode="test", job_id=job.id)
    streams.tick()
    assert request.wait().json()["state"] == "canceled"


def test_what_happens_on_the_way_answers_nobody(streams, owner):
    job = queued_job(owner)
    request = wait(streams, job)
    job = claim(job.id)
    streams.tick()
    streams.held(request)
    transitions.postpone_job(job_id=job.id, attempt=1, delay=timezone.timedelta(0), detail="later")
    streams.tick()
    streams.held(request)
    succeed(claim(job.id))
    streams.tick()
    assert request.wait().json()["attempt"] == 2


def test_a_wait_that_is_over_is_answered_with_the_job_as_it_is(streams, owner):
    job = queued_job(owner)
    answer = streams.get(f"/v1/jobs/{job.id}?wait=1").wait()
    assert (answer.status, answer.json()["state"], answer.headers["retry-after"]) == (200, "queued", "1")
    assert streams.get(f"/v1/jobs/{job.id}?wait=1", if_none_match=answer.headers["etag"]).wait().status == 304


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.CANCELED, State.UNKNOWN])
def test_a_job_that_has_settled_is_answered_at_once(streams, owner, state):
    answer = streams.get(f"/v1/jobs/{in_state(owner, state).id}?wait=60").wait()
    assert (answer.status, answer.json()["state"]) == (200, state)


def test_no_wait_at_all_is_answered_at_once(streams, owner):
    assert streams.get(f"/v1/jobs/{queued_job(owner).id}?wait=0").wait().json()["state"] == "queued"
    head = streams.get(f"/v1/jobs/{queued_job(owner).id}?wait=60", method="HEAD").wait()
    assert (head.status, head.headers["retry-after"]) == (200, "1")


def test_the_answer_is_the_very_one_of_the_api(streams, owner, client):
    job = claimed_job(owner)
    request = wait(streams, job, x_request_id="mine")
    begin(job, "charge")
    transitions.doubt_job(job_id=job.id, attempt=1, detail="who knows")
    streams.tick()
    answer = request.wait()
    headers = {"Authorization": f"Bearer {streams.api_key}", "X-Request-Id": "mine"}
    same = client.get(f"/v1/jobs/{job.id}", headers=headers)
    assert answer.body == same.content
    assert answer.headers == {name.lower(): value for name, value in same.items()}


def test_a_client_that_has_the_settled_job_already_is_told_so(streams, owner, client):
    job = claimed_job(owner)
    request = wait(streams, job, if_none_match='"other"')
    succeed(job)
    streams.tick()
    tag = request.wait().headers["etag"]
    redriven = in_state(owner, State.QUEUED)
    other = wait(streams, redriven, if_none_match=tag)
    cancel_job(tenant_id=owner.id, mode="test", job_id=redriven.id)
    streams.tick()
    assert other.wait().status == 200
    known = streams.get(f"/v1/jobs/{job.id}?wait=9", if_none_match=tag).wait()
    assert (known.status, known.body) == (304, b"")
    assert "content-type" not in known.headers


@pytest.mark.parametrize(
    "query", ["?wait=61", "?wait=-1", "?wait=x", "?wait=", "?wait=1&wait=2", "?weit=1&wait=1"]
)
def test_what_is_no_time_to_wait_is_refused(streams, owner, query):
    answer = streams.get(f"/v1/jobs/{queued_job(owner).id}{query}").wait()
    assert (answer.status, answer.json()["code"]) == (400, "validation-failed")
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_a_hint_is_enough_and_one_for_another_job_costs_nothing(streams, owner):
    streams.tick()
    job, other = claimed_job(owner), claimed_job(owner)
    request = wait(streams, job)
    succeed(job)
    seq = Job.objects.get(pk=job.id).event_seq
    streams.call(streams.hub.hint, JobChange(other.id, 9))
    assert not streams.hub._hinted
    streams.call(streams.hub.hint, JobChange(job.id, seq))
    streams.look()
    assert request.wait().json()["state"] == "succeeded"


def test_without_a_hint_nothing_is_looked_at_before_the_tick(streams, owner):
    streams.tick()
    job = claimed_job(owner)
    request = wait(streams, job)
    succeed(job)
    streams.look()
    streams.held(request)
    streams.tick()
    assert request.wait().status == 200


@pytest.fixture
def statements(monkeypatch):
    """What the reader's thread asks the database, by what the hub and the batches call."""
    asked = []
    for place, name in (
        ("streams.hub", "positions_beyond"),
        ("streams.hub", "live_key_ids"),
        ("streams.rendering", "jobs_by_id"),
        ("streams.rendering", "events_beyond"),
    ):
        module = import_module(place)
        real = getattr(module, name)

        def told(*args, _real=real, _name=name, **options):
            asked.append((_name, len(args[0])))
            return _real(*args, **options)

        monkeypatch.setattr(module, name, told)
    return asked


def test_a_tick_is_one_statement_for_all_and_so_are_their_answers(statements, streams, owner):
    jobs = [claimed_job(owner) for _ in range(20)]
    requests = [wait(streams, job) for job in jobs] + [wait(streams, jobs[0])]
    assert statements == []
    streams.tick()
    assert statements == [("positions_beyond", 20), ("live_key_ids", 1)]
    for job in jobs:
        succeed(job)
    statements.clear()
    streams.tick()
    assert [request.wait().status for request in requests] == [200] * 21
    assert statements[0] == ("positions_beyond", 20)
    # The answers were read together, not one by one.
    assert 1 <= sum(name == "jobs_by_id" for name, _ in statements) <= 3
    statements.clear()
    streams.tick()
    assert statements == []


# --- who may wait --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["?wait=30", "/events"])
def test_another_tenants_job_is_as_missing_as_none(streams, owner, path):
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
def test_a_stranger_is_refused_as_everywhere(streams, owner, path, credential):
    answer = streams.get(
        f"/v1/jobs/{queued_job(owner).id}{path}", accept="text/event-stream, */*", authorization=credential
    ).wait()
    assert (answer.status, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("ending", [{"revoked_at": timezone.now()}, {"expires_at": timezone.now()}])
def test_a_key_that_has_ended_ends_its_requests_and_no_others(streams, owner, ending):
    job = claimed_job(owner)
    mine, events = wait(streams, job), stream(streams, job)
    ended = ApiKey.objects.get()
    streams.api_key = new_api_key(owner)
    other = wait(streams, job)
    streams.tick()
    assert [mine.is_answered, events.is_answered] == [False, False]
    ApiKey.objects.filter(pk=ended.pk).update(**ending)
    streams.tick()
    refused = mine.wait()
    assert (refused.status, refused.json()["code"]) == (401, "unauthenticated")
    assert events.wait().seqs == [1, 2]
    streams.held(other)
    succeed(job)
    streams.tick()
    assert other.wait().json()["state"] == "succeeded"


def test_as_many_may_wait_as_there_is_room_for(streams, owner, settings):
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
    streams.tick()
    assert again.wait().json()["state"] == "canceled"


def test_what_asks_for_nothing_of_the_kind_goes_to_django(streams, owner):
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


def test_a_stream_tells_every_event_once_and_ends_with_the_job(streams, owner, client):
    job = queued_job(owner)
    events = stream(streams, job)
    assert events.status == 200
    assert events.headers["content-type"] == "text/event-stream"
    assert events.headers["cache-control"] == "no-store"
    assert events.headers["x-accel-buffering"] == "no"
    assert events.headers["x-request-id"]
    job = claim(job.id)
    streams.tick()
    cancel_job(tenant_id=owner.id, mode="test", job_id=job.id)
    succeed(job)
    streams.tick()
    lines = events.wait().body.decode()
    listed = client.get(
        f"/v1/jobs/{job.id}/events", headers={"Authorization": f"Bearer {streams.api_key}"}
    ).content.decode()
    retry, *told, end = lines.split("\n\n")
    assert retry.startswith("retry: ")
    assert end == ""
    fields = [dict(line.split(": ", 1) for line in event.splitlines()) for event in told]
    assert [field["id"] for field in fields] == ["1", "2", "3", "4"]
    assert [field["event"] for field in fields] == ["submit", "claim", "cancel-requested", "succeed"]
    assert f'{{"data":[{",".join(field["data"] for field in fields)}],"next_after":null}}' == listed


def test_a_stream_stays_open_at_unknown_until_a_person_has_spoken(streams, owner):
    job = claimed_job(owner)
    events = stream(streams, job)
    doubt(job)
    streams.tick()
    until(lambda: events.seqs == [1, 2, 3])
    streams.held(events)
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
    streams.tick()
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
def test_a_stream_goes_on_where_the_last_one_was_cut(streams, owner, query, headers, first):
    job = claimed_job(owner)
    succeed(job)
    assert streams.stream(job.id, query, **headers).wait().seqs == list(range(first, 4))


@pytest.mark.parametrize("place", [{"query": "?after=3"}, {"last_event_id": "3"}, {"last_event_id": "99"}])
def test_who_has_everything_of_an_ended_job_need_not_come_back(streams, owner, place):
    job = claimed_job(owner)
    succeed(job)
    answer = streams.stream(job.id, **place).wait()
    assert (answer.status, answer.body) == (204, b"")
    # RFC 9110 §8.6: a 204 has no length, not even 0.
    assert not {"content-length", "content-type"} & answer.headers.keys()


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "2147483648", "1,2"])
def test_a_place_that_is_no_number_is_refused(streams, owner, last):
    answer = streams.stream(queued_job(owner).id, last_event_id=last).wait()
    assert (answer.status, answer.json()["code"]) == (400, "validation-failed")
    assert [error["parameter"] for error in answer.json()["errors"]] == ["Last-Event-ID"]


@pytest.mark.parametrize("query", ["limit=5", "wait=5", "after=1&after=2"])
def test_a_parameter_that_is_not_for_streams_is_refused(streams, owner, query):
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
def test_who_likes_one_form_better_gets_that(streams, owner, accept, content_type):
    job = in_state(owner, State.SUCCEEDED)
    answer = streams.get(f"/v1/jobs/{job.id}/events", accept=accept).wait()
    assert (answer.status, answer.headers["content-type"]) == (200, content_type)


def test_a_head_request_for_a_stream_is_not_held(streams, owner):
    job = queued_job(owner)
    answer = streams.get(f"/v1/jobs/{job.id}/events", method="HEAD", accept="text/event-stream").wait()
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, "text/event-stream", b"")


def test_a_long_history_comes_in_pieces_and_whole(streams, owner):
    job = claimed_job(owner)
    for number in range(250):
        append_evidence(job_id=job.id, attempt=1, data={"number": number})
    succeed(job)
    events = streams.stream(job.id).wait()
    assert events.seqs == list(range(1, 254))
    assert len(events.messages) > 4


def test_a_quiet_stream_is_kept_alive(streams, owner, settings):
    settings.SSE_KEEPALIVE_SECONDS = 0.01
    job = queued_job(owner)
    events = streams.stream(job.id)
    until(lambda: b"\n\n:\n\n" in events.body)
    cancel_job(tenant_id=owner.id, mode="test", job_id=job.id)
    streams.tick()
    assert events.wait().seqs == [1, 2]


# --- races ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hears", ["by a hint", "by a tick"])
def test_what_is_committed_between_the_first_read_and_the_wait_is_not_lost(
    streams, owner, monkeypatch, hears
):
    """The request is among the watchers before the first read: what the hub sees meanwhile is there when it begins to wait."""
    streams.tick()
    job = claimed_job(owner)
    ask = request_gate.RequestGate._respond

    def read_and_settle(self, *args):
        admitted = ask(self, *args)
        job_now = Job.objects.get(pk=job.id)
        if job_now.state == State.RUNNING:
            succeed(job_now)
            if hears == "by a hint":
                streams.call(streams.hub.hint, JobChange(job.id, job_now.event_seq + 1))
                streams.look()
            else:
                streams.tick()
        return admitted

    monkeypatch.setattr(request_gate.RequestGate, "_respond", read_and_settle)
    # Neither a tick nor a hint comes after this: the answer is owed to what was heard before the wait began.
    assert streams.get(f"/v1/jobs/{job.id}?wait=30").wait().json()["state"] == "succeeded"


def test_an_event_between_two_reads_of_a_stream_is_told_once(streams, owner, monkeypatch):
    job = queued_job(owner)
    events = stream(streams, job)
    job = claim(job.id)
    streams.tick()
    until(lambda: events.seqs == [1, 2])
    # Late, doubled and out of order: what is next is read, whatever is heard.
    for seq in (2, 1, 2, 3):
        streams.call(streams.hub.hint, JobChange(job.id, seq))
        streams.look()
    streams.tick()
    streams.held(events)
    succeed(job)
    streams.tick()
    assert events.wait().seqs == [1, 2, 3]


def test_a_redriven_job_is_another_story(streams, owner):
    job = claimed_job(owner)
    fail(job)
    first = streams.stream(job.id).wait()
    assert first.seqs == [1, 2, 3]
    redrive_job(tenant_id=owner.id, mode="test", job_id=job.id)
    events = stream(streams, job, last_event_id="3")
    until(lambda: events.seqs == [4])
    succeed(claim(job.id))
    streams.tick()
    assert events.wait().seqs == [4, 5, 6]


def test_a_job_that_is_gone_ends_what_waits_for_it(streams, owner):
    job = queued_job(owner)
    request, events = wait(streams, job), stream(streams, job)
    Job.objects.filter(pk=job.id).delete()
    streams.tick()
    assert request.wait().json()["code"] == "not-found"
    assert events.wait().seqs == [1]


# --- trouble -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def trouble(monkeypatch):
    """Add names of what the database refuses to answer; take them away and it answers again."""
    refused = set()
    for name in ("jobs_by_id", "events_beyond"):
        real = getattr(rendering, name)

        def ask(*args, _real=real, _name=name, **options):
            if _name in refused:
                raise OperationalError("the connection is lost")
            return _real(*args, **options)

        monkeypatch.setattr(rendering, name, ask)
    return refused


def test_where_the_answer_cannot_be_read_the_api_is_asked(streams, owner, trouble):
    job = claimed_job(owner)
    request = wait(streams, job)
    trouble.add("jobs_by_id")
    succeed(job)
    streams.tick()
    answer = request.wait()
    assert (answer.status, answer.json()["state"]) == (200, "succeeded")
    assert answer.headers["etag"]


def test_a_stream_outlives_a_database_that_was_away(streams, owner, trouble, settings):
    job = claimed_job(owner)
    events = stream(streams, job)
    trouble.add("events_beyond")
    settings.STREAMS_POLL_SECONDS = 0.01
    succeed(job)
    streams.tick()
    until(lambda: events.waits)
    assert not events.is_answered
    trouble.clear()
    assert events.wait().seqs == [1, 2, 3]


def test_a_hub_that_could_not_look_looks_again(streams, owner, monkeypatch, settings):
    job = claimed_job(owner)
    request, failures = wait(streams, job), []
    real = hub.positions_beyond

    def refuse_twice(known):
        if len(failures) < 2:
            failures.append(known)
            raise OperationalError("the connection is lost")
        return real(known)

    monkeypatch.setattr(hub, "positions_beyond", refuse_twice)
    streams.hub._poll_seconds = 0.01
    running = streams.begin(streams.hub.run())
    succeed(job)
    assert request.wait().json()["state"] == "succeeded"
    assert len(failures) == 2
    running.cancel()


# --- leaving and stopping ------------------------------------------------------------------------------------------------


def test_who_leaves_leaves_nothing_behind(streams, owner):
    job = queued_job(owner)
    for request in (wait(streams, job), stream(streams, job)):
        request.leave()
        request.wait()
    assert not streams.hub._watched
    assert streams.application._open == 0


def test_a_stop_answers_everyone_with_what_is_known(streams, owner):
    job = claimed_job(owner)
    request, events = wait(streams, job), stream(streams, job)
    streams.call(streams.hub.close)
    answer = request.wait()
    assert (answer.status, answer.json()["state"], answer.headers["retry-after"]) == (200, "running", "1")
    assert events.wait().seqs == [1, 2]
    assert events.messages[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    # Who comes in the last moment does not wait either.
    assert streams.get(f"/v1/jobs/{job.id}?wait=60").wait().json()["state"] == "running"


def test_a_client_that_does_not_read_is_not_waited_for(streams, owner, settings):
    settings.STREAMS_SEND_TIMEOUT_SECONDS = 0.01
    job = queued_job(owner)
    events = stream(streams, job)
    streams.call(events.reads.clear)
    claim(job.id)
    streams.tick()
    events.wait()
    assert events.seqs == [1]
    assert not streams.hub._watched


def test_a_stop_does_not_wait_for_a_client_that_does_not_read(streams, owner):
    job = queued_job(owner)
    events = stream(streams, job)
    streams.call(events.reads.clear)
    claim(job.id)
    streams.tick()
    until(
        lambda: streams.call(lambda: streams.hub._watched[job.id].waiters.copy().pop()._timeout is not None)
    )
    streams.call(streams.hub.close)
    events.wait()
    assert events.seqs == [1]
