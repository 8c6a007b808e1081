"""The admin's overview, the jobs that need attention, and failures by kind."""

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
    return backdate(job.id, run_at=age, created_at=age)


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
def test_each_kind_of_trouble_is_listed_with_its_reason_and_action(tenant, reader, operator, kind):
    make, title, action = kind
    job = make(tenant)
    text, html = text_of(reader.get(ATTENTION)), operator.get(ATTENTION).content.decode()
    assert f"{title} 1" in text
    assert job.id in job_ids(reader.get(ATTENTION))
    assert "Nothing needs attention" not in text
    offered = set(re.findall(rf"/job/{job.id}/(\w+)/", html))
    assert offered == ({action} if action else set())
    assert not re.findall(rf"/job/{job.id}/(\w+)/", reader.get(ATTENTION).content.decode())


def test_healthy_jobs_are_not_in_the_attention_list(tenant, reader):
    for state in (State.QUEUED, State.RUNNING, State.SUCCEEDED, State.CANCELED):
        in_state(tenant, state)
    answer = reader.get(ATTENTION)
    assert "Nothing needs attention" in text_of(answer)
    assert job_ids(answer) == []


def test_failures_are_grouped_and_each_group_links_to_its_jobs(tenant, reader):
    declined = [failed(tenant).id for _ in range(3)]
    other = failed(tenant, cause="provider-unavailable")
    answer = reader.get(ERRORS)
    text = text_of(answer)
    assert "3 test.scripted operation-failed card_declined" in text
    assert "1 test.scripted operation-failed provider-unavailable" in text
    links = re.findall(r'href="(/admin/jobs/job/\?[^"]+)"', answer.content.decode())
    found = [job_ids(reader.get(link.replace("&amp;", "&"))) for link in links]
    assert sorted(map(len, found)) == [1, 3]
    assert declined[::-1] in found
    assert [other.id] in found


def test_the_errors_page_covers_the_chosen_period(tenant, reader):
    backdate(failed(tenant).id, finished_at=2 * HOUR)
    assert "No failures" in text_of(reader.get(ERRORS, {"hours": "1"}))
    for hours in ("24", "168", "nonsense"):
        assert "card_declined" in text_of(reader.get(ERRORS, {"hours": hours}))


@pytest.mark.parametrize("path", [ATTENTION, ERRORS])
def test_the_attention_pages_need_the_permission_to_view_jobs(path):
    assert client_of(user_with("view_tenant")).get(path).status_code == 403


# --- The overview ---


def test_the_overview_shows_that_all_is_well(tenant, reader):
    in_state(tenant, State.SUCCEEDED)
    text = text_of(reader.get("/admin/"))
    for part in (
        "Overview",
        "Unknown 0",
        "Stuck 0",
        "Partially done 0",
        "Oldest due job none",
        "Violations 0",
        "Nothing is paused",
    ):
        assert part in text


def test_the_overview_counts_what_needs_attention(tenant, reader):
    in_state(tenant, State.UNKNOWN), in_state(tenant, State.UNKNOWN)
    abandoned(tenant), partially_done(tenant)
    overdue(tenant)
    Violation.objects.create(invariant="I4", rule="fence", subject="job/1")
    text = text_of(reader.get("/admin/"))
    for part in ("Violations 1", "Unknown 2", "Stuck 2", "Partially done 1", "Oldest due job 1 h 5 min"):
        assert part in text


def test_the_overview_hides_jobs_from_users_without_the_permission(tenant):
    in_state(tenant, State.UNKNOWN)
    text = text_of(client_of(user_with("view_tenant")).get("/admin/"))
    assert "Unknown" not in text
    assert "Needs attention" not in text


def test_the_attention_pages_are_in_the_menu(reader):
    html = reader.get(JOBS).content.decode()
    assert f'href="{ATTENTION}"' in html
    assert f'href="{ERRORS}"' in html
