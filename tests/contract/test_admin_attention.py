"""Is all well, and what needs somebody: the admin's first page, the jobs that wait for a person, failures by their kind."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.conf import settings

from jobs import transitions
from jobs.models import Violation
from jobs.states import State
from tests.support.admin_pages import JOBS, client_of, job_ids, text_of, user_with
from tests.support.factories import backdate, claimed_job, end_lease, queued_job
from tests.support.scenarios import HOUR, begin, close, in_state

pytestmark = pytest.mark.django_db

ATTENTION, ERRORS = f"{JOBS}attention/", f"{JOBS}errors/"


@pytest.fixture
def reader():
    return client_of(user_with("view_job", "view_pause"))


@pytest.fixture
def operator():
    return client_of(user_with("view_job", "operate_job", name="grace"))


def failed(tenant, cause="card_declined"):
    job = claimed_job(tenant)
    return transitions.fail_job(job_id=job.id, attempt=job.attempt, detail="no", cause=cause)


def partially_done(tenant):
    job = claimed_job(tenant)
    begin(job, "charge")
    close(job, "charge", "done", {})
    return transitions.fail_job(job_id=job.id, attempt=job.attempt, detail="no", cause="no")


def overdue(tenant):
    job = queued_job(tenant)
    age = timedelta(seconds=settings.OVERDUE_JOB_SECONDS) + HOUR
    return backdate(job.id, run_at=age, next_publish_at=age, created_at=age)


def abandoned(tenant):
    return end_lease(claimed_job(tenant).id)


KINDS = [
    (lambda tenant: in_state(tenant, State.UNKNOWN), "Unknown", "resolve"),
    (partially_done, "Partially done", "redrive"),
    (abandoned, "Stuck: lease expired", None),
    (overdue, "Stuck: due but not claimed", "cancel"),
    (failed, "Failed in the last day", "redrive"),
]


@pytest.mark.parametrize("kind", KINDS, ids=[title for _, title, _ in KINDS])
def test_what_waits_for_a_person_is_told_with_the_reason_and_the_act_at_hand(tenant, reader, operator, kind):
    make, title, act = kind
    job = make(tenant)
    said, html = text_of(reader.get(ATTENTION)), operator.get(ATTENTION).content.decode()
    assert f"{title} 1" in said
    assert job.id in job_ids(reader.get(ATTENTION))
    assert "Nothing needs attention" not in said
    offered = set(re.findall(rf"/job/{job.id}/(\w+)/", html))
    assert offered == ({act} if act else set())
    assert not re.findall(rf"/job/{job.id}/(\w+)/", reader.get(ATTENTION).content.decode())


def test_jobs_that_go_their_way_need_nobody(tenant, reader):
    for state in (State.QUEUED, State.RUNNING, State.SUCCEEDED, State.CANCELED):
        in_state(tenant, state)
    answer = reader.get(ATTENTION)
    assert "Nothing needs attention" in text_of(answer)
    assert job_ids(answer) == []


def test_failures_are_grouped_and_each_group_leads_to_its_jobs(tenant, reader):
    declined = [failed(tenant).id for _ in range(3)]
    other = failed(tenant, cause="provider-unavailable")
    answer = reader.get(ERRORS)
    said = text_of(answer)
    assert "3 test.scripted operation-failed card_declined" in said
    assert "1 test.scripted operation-failed provider-unavailable" in said
    links = re.findall(r'href="(/admin/jobs/job/\?[^"]+)"', answer.content.decode())
    found = [job_ids(reader.get(link.replace("&amp;", "&"))) for link in links]
    assert sorted(map(len, found)) == [1, 3]
    assert declined[::-1] in found
    assert [other.id] in found


def test_failures_are_looked_for_as_far_back_as_is_asked(tenant, reader):
    backdate(failed(tenant).id, finished_at=2 * HOUR)
    assert "No failures" in text_of(reader.get(ERRORS, {"hours": "1"}))
    for hours in ("24", "168", "nonsense"):
        assert "card_declined" in text_of(reader.get(ERRORS, {"hours": hours}))


@pytest.mark.parametrize("path", [ATTENTION, ERRORS])
def test_these_pages_are_for_who_may_look_at_jobs(path):
    assert client_of(user_with("view_tenant")).get(path).status_code == 403


# --- The first page ---


def test_the_first_page_says_that_all_is_well(tenant, reader):
    in_state(tenant, State.SUCCEEDED)
    said = text_of(reader.get("/admin/"))
    for words in (
        "Overview",
        "Unknown 0",
        "Stuck 0",
        "Partially done 0",
        "Oldest due job none",
        "Violations 0",
        "Nothing is paused",
    ):
        assert words in said


def test_the_first_page_counts_what_needs_somebody(tenant, reader):
    in_state(tenant, State.UNKNOWN), in_state(tenant, State.UNKNOWN)
    abandoned(tenant), partially_done(tenant)
    overdue(tenant)
    Violation.objects.create(invariant="I4", rule="fence", subject="job/1")
    said = text_of(reader.get("/admin/"))
    for words in ("Violations 1", "Unknown 2", "Stuck 2", "Partially done 1", "Oldest due job 1 h 5 min"):
        assert words in said


def test_the_first_page_shows_nothing_of_jobs_to_who_may_not_look_at_them(tenant):
    in_state(tenant, State.UNKNOWN)
    said = text_of(client_of(user_with("view_tenant")).get("/admin/"))
    assert "Unknown" not in said
    assert "Needs attention" not in said


def test_the_pages_that_are_no_models_stand_in_the_menu(reader):
    html = reader.get(JOBS).content.decode()
    assert f'href="{ATTENTION}"' in html
    assert f'href="{ERRORS}"' in html
