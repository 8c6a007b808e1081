"""`run_at` and `deadline` of POST /v1/jobs: a job never starts before `run_at`, and fails if it has not started by `deadline`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from api.job_documents import format_time
from broker.hints import DueJob
from idempotency.models import IdempotencyRecord
from jobs import transitions
from jobs.models import Job, JobStep
from jobs.queries.sweep import find_due
from jobs.registry import known_operations
from jobs.states import State
from tests.support.client import CHARGE, accepted, pointers, post, problem
from tests.support.factories import claim, make_due
from tests.support.scenarios import begin, close, history, write
from workers import sweep

HOUR = timedelta(hours=1)


def ahead(**delta):
    """Return the instant that lies this far from now, as the API writes it."""
    return format_time(datetime.now(UTC) + timedelta(**delta))


def submit(api, **members):
    return Job.objects.get(pk=accepted(post(api, {**CHARGE, **members}))["id"])


def try_to_claim(job):
    return transitions.claim_job(job_id=job.id, worker="w", known_operations=known_operations())


def published():
    return [due.id for due in find_due(["default"], limit=100, ahead=timedelta(0))]


def pointers_and_codes(error):
    return [(one["pointer"], one["code"]) for one in error["errors"]]


# --- run_at -----------------------------------------------------------------------------------------------------------


def test_a_job_waits_for_its_run_at(api, hinted):
    at = ahead(hours=1)
    job = submit(api, run_at=at)
    assert hinted == []
    document = api.get(f"/v1/jobs/{job.id}").json()
    assert (document["state"], document["run_at"]) == ("queued", at)
    assert published() == []
    assert try_to_claim(job) is None
    make_due(job.id)
    assert published() == [job.id]
    assert claim(job.id).state == State.RUNNING


@pytest.mark.parametrize("at", ["2000-01-01T00:00:00Z", "0001-01-01T00:00:00Z"])
def test_a_run_at_in_the_past_makes_the_job_due_now(api, at, hinted):
    job = submit(api, run_at=at)
    assert hinted == [DueJob(job.id, job.queue)]
    assert job.run_at == job.created_at
    assert claim(job.id).state == State.RUNNING


def test_a_job_due_before_the_next_sweep_gets_its_hint_in_time(api, hinted):
    job = submit(api, run_at=ahead(seconds=4))
    [due] = hinted
    assert due.id == job.id
    assert due.in_seconds == pytest.approx((job.run_at - job.created_at).total_seconds())
    assert 0 < due.in_seconds <= 4


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("{}-03-01T12:00:00+02:00", "{}-03-01T10:00:00.000Z"),
        ("{}-03-01T12:00:00.123456-00:30", "{}-03-01T12:30:00.123Z"),
        ("{}-03-01t12:00:00.5z", "{}-03-01T12:00:00.500Z"),
        ("{}-03-01T12:00:00-00:00", "{}-03-01T12:00:00.000Z"),
    ],
)
def test_an_instant_with_any_offset_is_shown_in_utc(api, settings, written, shown):
    settings.RUN_AT_MAX_SECONDS = 3 * 366 * 86_400
    year = datetime.now(UTC).year + 1
    assert accepted(post(api, {**CHARGE, "run_at": written.format(year)}))["run_at"] == shown.format(year)


@pytest.mark.parametrize("member", ["run_at", "deadline"])
@pytest.mark.parametrize(
    "value",
    [
        "2030-01-01T00:00:00",
        "2030-01-01",
        "2030-01-01T00:00Z",
        "2030-01-01 00:00:00Z",
        "20300101T000000Z",
        "2030-13-01T00:00:00Z",
        "2030-02-30T00:00:00Z",
        "2030-01-01T24:00:00Z",
        "2030-01-01T00:00:60Z",
        "2030-01-01T00:00:00+25:00",
        "2030-01-01T00:00:00+0200",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "\u0662030-01-01T00:00:00Z",
        " 2030-01-01T00:00:00Z",
        "tomorrow",
        "",
        1893456000,
        True,
        [],
    ],
)
def test_an_invalid_instant_is_refused(api, member, value):
    document = problem(post(api, {**CHARGE, member: value}), 400, "validation-failed")
    assert pointers_and_codes(document) == [(f"/{member}", "invalid")]
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.parametrize("member", ["run_at", "deadline"])
def test_null_is_refused_as_an_instant(api, member):
    document = problem(post(api, {**CHARGE, member: None}), 400, "validation-failed")
    assert pointers(document) == {f"/{member}"}


def test_a_run_at_too_far_in_the_future_is_refused(api, settings):
    document = problem(post(api, {**CHARGE, "run_at": ahead(days=30, minutes=1)}), 400, "validation-failed")
    assert pointers_and_codes(document) == [("/run_at", "too_late")]
    accepted(post(api, {**CHARGE, "run_at": ahead(days=29, hours=23)}))
    settings.RUN_AT_MAX_SECONDS = 3_600
    problem(post(api, {**CHARGE, "run_at": ahead(hours=2)}, key="another"), 400, "validation-failed")


def test_retry_after_follows_the_time_until_the_job_is_due(api):
    def pause(**delta):
        job = submit(api, run_at=ahead(**delta))
        return int(api.get(f"/v1/jobs/{job.id}")["Retry-After"])

    assert pause(hours=1) == 60
    IdempotencyRecord.objects.all().delete()
    assert 20 <= pause(seconds=50) <= 50
    IdempotencyRecord.objects.all().delete()
    assert pause(seconds=-50) == 1


def test_the_run_at_of_a_running_job_does_not_change_its_retry_after(api):
    job = submit(api)
    claim(job.id)
    write(job.id, "run_at = clock_timestamp() + interval '1 hour'")
    assert api.get(f"/v1/jobs/{job.id}")["Retry-After"] == "1"


# --- deadline ---------------------------------------------------------------------------------------------------------


def test_a_deadline_is_shown_and_changes_nothing_before_it_passes(api):
    at = ahead(hours=1)
    job = submit(api, deadline=at)
    assert api.get(f"/v1/jobs/{job.id}").json()["deadline"] == at
    assert sweep.run_once().lapsed == 0
    assert claim(job.id).state == State.RUNNING


def pass_deadline(job):
    return write(job.id, "deadline_at = clock_timestamp() - interval '1 second'")


@pytest.mark.parametrize("by", [lambda _job: sweep.run_once(), try_to_claim], ids=["sweep", "claim"])
def test_a_queued_job_fails_when_its_deadline_passes(api, by):
    job = pass_deadline(submit(api, deadline=ahead(hours=1)))
    by(job)
    document = api.get(f"/v1/jobs/{job.id}").json()
    assert (document["state"], document["error"]["code"]) == ("failed", "deadline-exceeded")
    assert document["error"]["retryable"] is True
    assert history(job.id) == ["submit", "lapse"]


@pytest.mark.parametrize("by", [lambda _job: sweep.run_once(), try_to_claim], ids=["sweep", "claim"])
def test_a_job_that_started_before_its_deadline_keeps_running(api, by):
    job = submit(api, deadline=ahead(hours=1))
    claim(job.id)
    pass_deadline(job)
    by(job)
    assert Job.objects.get(pk=job.id).state == State.RUNNING


def test_a_queued_job_with_an_open_effect_can_run_after_its_deadline(api):
    job = submit(api, deadline=ahead(hours=1))
    begin(claim(job.id), "charge")
    transitions.retry_job(job_id=job.id, attempt=1, delay=timedelta(0), detail="cut", cause="test")
    pass_deadline(job)
    assert sweep.run_once().lapsed == 0
    assert claim(job.id).attempt == 2


@pytest.mark.parametrize("by", [lambda _job: sweep.run_once(), try_to_claim], ids=["sweep", "claim"])
def test_a_queued_job_with_a_completed_effect_can_run_after_its_deadline(api, by):
    """Otherwise the job would neither be completed nor compensated."""
    job = submit(api, deadline=ahead(hours=1))
    claimed = claim(job.id)
    begin(claimed, "charge")
    close(claimed, "charge", JobStep.State.DONE, {"id": "ch_1"})
    transitions.postpone_job(job_id=job.id, attempt=1, delay=timedelta(0), detail="the worker stops")
    pass_deadline(job)
    by(job)
    assert "lapse" not in history(job.id)
    assert Job.objects.get(pk=job.id).state in (State.QUEUED, State.RUNNING)


def test_a_deadline_in_the_past_is_refused(api):
    document = problem(post(api, {**CHARGE, "deadline": ahead(seconds=-1)}), 400, "validation-failed")
    assert pointers_and_codes(document) == [("/deadline", "in_the_past")]
    assert not Job.objects.exists()


@pytest.mark.parametrize("minutes", [60, 59])
def test_a_deadline_that_is_not_after_run_at_is_refused(api, minutes):
    now = datetime.now(UTC)
    run_at, deadline = format_time(now + HOUR), format_time(now + timedelta(minutes=minutes))
    document = problem(post(api, {**CHARGE, "run_at": run_at, "deadline": deadline}), 400, "validation-failed")
    assert pointers_and_codes(document) == [("/deadline", "before_run_at")]


def test_an_invalid_run_at_and_an_invalid_deadline_are_both_named(api):
    body = {**CHARGE, "run_at": ahead(days=99), "deadline": ahead(days=-1)}
    assert pointers_and_codes(problem(post(api, body), 400, "validation-failed")) == [
        ("/run_at", "too_late"),
        ("/deadline", "in_the_past"),
    ]


def test_a_run_at_in_the_past_does_not_affect_the_check_of_the_deadline(api):
    accepted(post(api, {**CHARGE, "run_at": ahead(days=-1), "deadline": ahead(hours=1)}))


# --- idempotency ------------------------------------------------------------------------------------------------------


def test_a_replay_works_after_run_at_and_deadline_have_passed(api, monkeypatch):
    body = {**CHARGE, "run_at": ahead(minutes=1), "deadline": ahead(minutes=2)}
    first = post(api, body)
    accepted(first)
    monkeypatch.setattr("api.submission_form.datetime", HourAhead)
    problem(post(api, body, key="another"), 400, "validation-failed")
    assert post(api, body).content == first.content


class HourAhead(datetime):
    """A clock that is an hour ahead."""

    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) + HOUR


@pytest.mark.parametrize("member", ["run_at", "deadline"])
def test_another_instant_under_the_same_key_is_another_request(api, member):
    body = {**CHARGE, member: ahead(hours=1)}
    accepted(post(api, body))
    for other in ({**CHARGE, member: ahead(hours=2)}, CHARGE):
        document = problem(post(api, other), 409, "idempotency-key-reused")
        assert document["mismatch"] == [f"/{member}"]
    assert UUID(post(api, body).json()["id"]) == Job.objects.get().id
