"""`Retry-After` follows how long the tenant's jobs of that operation took of late."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import DatabaseError

from jobs import transitions
from jobs.durations import typical_durations
from jobs.payloads import encode_payload
from tests.support.client import CHARGE, accepted, post
from tests.support.factories import TenantFactory, backdate, claim, queued_job

SCRIPT = {"operation": "test.scripted", "params": {"script": "none"}}


def took(tenant, seconds, **options):
    """A job that ran for so long, and succeeded."""
    job = claim(queued_job(tenant, **options).id)
    transitions.succeed_job(job_id=job.id, attempt=job.attempt, result=encode_payload(1))
    return backdate(job.id, started_at=timedelta(seconds=seconds))


def pause(response):
    assert response.status_code < 400, response.content
    return int(response["Retry-After"])


def read(api, job):
    return api.get(f"/v1/jobs/{job.id}")


def learn(api):
    """The process has been asked, and has looked."""
    post(api, SCRIPT, key="asks")
    typical_durations.refresh()


def test_a_process_that_knows_nothing_yet_says_a_second(api, tenant):
    took(tenant, 20)
    assert pause(post(api, SCRIPT)) == 1


def test_a_new_job_is_worth_a_look_after_the_median(api, tenant):
    for seconds in (5, 20, 300):
        took(tenant, seconds)
    learn(api)
    response = post(api, SCRIPT)
    assert pause(response) in (20, 21)
    assert pause(api.get(response["Location"])) in (20, 21)


@pytest.mark.parametrize(("seconds", "expected"), [(0, {1}), (0.5, {1}), (600, {60})])
def test_it_is_a_second_at_least_and_a_minute_at_most(api, tenant, seconds, expected):
    took(tenant, seconds)
    learn(api)
    assert pause(post(api, SCRIPT)) in expected


def test_what_has_passed_of_a_running_job_is_counted(api, tenant):
    took(tenant, 50)
    learn(api)
    job = claim(queued_job(tenant).id)
    assert pause(read(api, job)) in (50, 51)
    assert pause(read(api, backdate(job.id, started_at=timedelta(seconds=30)))) in (20, 21)
    assert pause(read(api, backdate(job.id, started_at=timedelta(hours=1)))) == 1


def test_a_job_that_is_not_due_is_not_worth_a_look_before(api, tenant):
    took(tenant, 5)
    learn(api)
    job = backdate(queued_job(tenant).id, run_at=-timedelta(seconds=30))
    assert pause(read(api, job)) in range(30, 37)
    assert pause(read(api, backdate(job.id, run_at=-timedelta(hours=1)))) == 60


def test_other_tenants_modes_operations_and_failures_say_nothing(api, tenant):
    took(tenant, 3)
    took(TenantFactory(), 40)
    took(tenant, 40, mode="live")
    failed = claim(queued_job(tenant).id)
    transitions.fail_job(job_id=failed.id, attempt=1, detail="no", cause="no")
    backdate(failed.id, started_at=timedelta(seconds=59))
    learn(api)
    assert pause(post(api, SCRIPT)) in (3, 4)
    assert pause(post(api, CHARGE, key="charge")) == 1


def test_the_latest_jobs_count(api, tenant):
    for _ in range(3):
        took(tenant, 50)
    for _ in range(21):
        took(tenant, 9)
    learn(api)
    assert pause(post(api, SCRIPT)) in (9, 10)


def test_a_replay_has_the_first_answers_hint(api, tenant):
    first = post(api, SCRIPT)
    took(tenant, 20)
    typical_durations.refresh()
    again = post(api, SCRIPT)
    assert (again["Retry-After"], again["Idempotency-Replayed"]) == (first["Retry-After"], "true")
    assert pause(api.get(f"/v1/jobs/{accepted(first)['id']}")) in (20, 21)


def test_what_was_known_stays_while_the_database_is_away(api, tenant, monkeypatch):
    took(tenant, 20)
    learn(api)
    post(api, SCRIPT, key="asks again")

    def away(_kinds):
        raise DatabaseError

    with monkeypatch.context() as patch:
        patch.setattr("jobs.durations.median_seconds", away)
        typical_durations.refresh()
    assert pause(post(api, SCRIPT)) in (20, 21)


def test_a_kind_without_an_end_yet_keeps_what_was_known(api, tenant):
    took(tenant, 20)
    learn(api)
    for _ in range(2):
        typical_durations.refresh()
    assert pause(post(api, SCRIPT)) in (20, 21)


def test_an_ended_job_has_no_hint(api, tenant):
    job = took(tenant, 20)
    learn(api)
    assert "Retry-After" not in read(api, job)
