"""Actions on many jobs in the admin: preview, reason, outcome of each job."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest

from accounts.models import AuditEntry
from jobs.models import BulkAction, Job
from jobs.states import State
from operators import bulk_worker
from tests.support.admin_pages import JOBS, client_of, text_of, user_with
from tests.support.factories import TenantFactory, queued_job
from tests.support.keyed import keyed_job
from tests.support.scenarios import in_state

pytestmark = pytest.mark.django_db

MANY, BULKS = f"{JOBS}bulk/", "/admin/jobs/bulkaction/"
WHY = {"note": "The provider is back."}


@pytest.fixture
def reader():
    return client_of(user_with("view_job"))


@pytest.fixture
def operator():
    return client_of(user_with("view_job", "operate_job", name="grace"))


def address(action, *jobs, **filters):
    """Return the address that the form of the list opens: for selected rows, or for a filter."""
    scope = "selected" if jobs else "filter"
    query = [f"action={action}", f"scope={scope}", *(f"job={job.id}" for job in jobs)]
    return f"{MANY}?{'&'.join([*query, *(f'{name}={value}' for name, value in filters.items())])}"


def confirm(client, path, **data):
    """Open the preview, then send its form."""
    html = client.get(path).content.decode()
    hidden = dict(re.findall(r'type="hidden" name="(as_of)" value="([^"]*)"', html))
    return client.post(path, {**hidden, **WHY, **data}, follow=True)


def states(*jobs):
    return [Job.objects.get(pk=job.id).state for job in jobs]


# --- Selected rows ---


def test_selected_rows_are_previewed_then_changed_and_listed_one_by_one(tenant, operator):
    failed = [in_state(tenant, State.FAILED) for _ in range(3)]
    path = address("redrive", *failed[:2])
    preview = text_of(operator.get(path))
    assert "2 jobs selected" in preview
    assert str(failed[0].id) in preview
    assert states(*failed) == ["failed"] * 3
    text = text_of(confirm(operator, path))
    assert "Redrive: 2 of 2 done" in text
    assert states(*failed) == ["queued", "queued", "failed"]
    entries = AuditEntry.objects.filter(action="job.redrive")
    assert {entry.actor for entry in entries} == {"user grace"}
    assert {entry.note for entry in entries} == {"The provider is back."}
    assert entries.count() == 2


def test_a_refused_row_is_listed_and_does_not_stop_the_others(tenant, operator):
    done, failed = in_state(tenant, State.SUCCEEDED), in_state(tenant, State.FAILED)
    text = text_of(confirm(operator, address("redrive", done, failed)))
    assert "Redrive: 1 of 2 done" in text
    assert "is succeeded, which does not allow redrive" in text
    assert states(done, failed) == ["succeeded", "queued"]


def test_selected_unknown_jobs_are_resolved_by_one_verdict(tenant, operator):
    jobs = [in_state(tenant, State.UNKNOWN) for _ in range(2)]
    path = address("resolve", *jobs)
    assert "This field is required" in text_of(confirm(operator, path))
    assert "cannot succeed" in text_of(confirm(operator, path, verdict="not_done", then="succeeded"))
    assert states(*jobs) == ["unknown"] * 2
    confirm(operator, path, verdict="not_done", then="queued")
    assert states(*jobs) == ["queued"] * 2


@pytest.mark.parametrize("scope", ["selected", "filter"])
def test_a_reason_is_mandatory(tenant, operator, scope):
    job = in_state(tenant, State.FAILED)
    path = address("redrive", job) if scope == "selected" else address("redrive", state="failed")
    assert "This field is required" in text_of(operator.post(path, {"note": " "}))
    assert states(job) == ["failed"]
    assert not BulkAction.objects.exists()


def test_keys_of_selected_jobs_are_released(tenant, operator):
    job, keyless = keyed_job(tenant, "order-1001"), in_state(tenant, State.SUCCEEDED)
    text = text_of(confirm(operator, address("release", job, keyless)))
    assert "Release keys: 0 of 2 done" in text
    assert "The key is already free" in text


def test_ids_that_are_no_jobs_are_left_out(operator):
    text = text_of(operator.get(f"{MANY}?action=cancel&scope=selected&job=x&job={uuid4()}"))
    assert "0 jobs selected" in text


# --- All jobs that match a filter ---


def test_a_filter_is_previewed_started_and_followed_to_its_end(tenant, operator):
    failed = [in_state(tenant, State.FAILED) for _ in range(3)]
    other = in_state(TenantFactory(), State.FAILED)
    path = address("redrive", state="failed", tenant=tenant.id)
    assert "3 jobs match the filter" in text_of(operator.get(path))
    assert not BulkAction.objects.exists()
    answer = confirm(operator, path)
    bulk = BulkAction.objects.get()
    assert answer.redirect_chain[-1] == (f"{BULKS}{bulk.id}/", 302)
    assert "running" in text_of(answer)
    assert 'http-equiv="refresh"' in answer.content.decode()
    list(bulk_worker.steps())
    page = operator.get(f"{BULKS}{bulk.id}/")
    assert "Jobs changed 3" in text_of(page)
    assert 'http-equiv="refresh"' not in page.content.decode()
    assert states(*failed, other) == ["queued"] * 3 + ["failed"]
    [entry] = AuditEntry.objects.filter(action="bulk.start")
    assert (entry.actor, entry.note) == ("user grace", "The provider is back.")
    assert f"{BULKS}{bulk.id}/" in operator.get(BULKS).content.decode()


def test_jobs_that_arrive_after_the_preview_are_left_out(tenant, operator):
    seen = queued_job(tenant)
    path = address("cancel", state="queued")
    html = operator.get(path).content.decode()
    as_of = re.search(r'name="as_of" value="([^"]*)"', html)[1]
    later = queued_job(tenant)
    operator.post(path, {**WHY, "as_of": as_of})
    list(bulk_worker.steps())
    assert states(seen, later) == ["canceled", "queued"]


def test_a_filter_without_a_state_is_refused(tenant, operator):
    in_state(tenant, State.FAILED)
    for path in (address("redrive", tenant=tenant.id), address("redrive", state="lost")):
        assert "Not started." in text_of(operator.get(path, follow=True))
    assert "Not started." in text_of(confirm(operator, address("redrive", state="succeeded")))
    assert not BulkAction.objects.exists()


def test_a_bulk_action_is_stopped(tenant, operator):
    job = in_state(tenant, State.FAILED)
    confirm(operator, address("redrive", state="failed"))
    bulk = BulkAction.objects.get()
    assert "stopped" in text_of(operator.post(f"{BULKS}{bulk.id}/stop/", follow=True))
    list(bulk_worker.steps())
    assert states(job) == ["failed"]
    assert AuditEntry.objects.filter(action="bulk.stop", actor="user grace").exists()


# --- Permissions ---


def test_a_read_only_user_is_refused_and_sees_no_button(tenant, reader, operator):
    job = in_state(tenant, State.FAILED)
    for path in (address("redrive", job), address("redrive", state="failed")):
        assert reader.get(path).status_code == 403
        assert reader.post(path, WHY).status_code == 403
    assert MANY not in reader.get(JOBS).content.decode()
    assert MANY in operator.get(JOBS).content.decode()
    confirm(operator, address("redrive", state="failed"))
    bulk = BulkAction.objects.get()
    assert reader.post(f"{BULKS}{bulk.id}/stop/").status_code == 403
    assert reader.get(f"{BULKS}{bulk.id}/").status_code in {200, 403}
    assert "/stop/" not in reader.get(f"{BULKS}{bulk.id}/").content.decode()
    assert states(job) == ["failed"]


def test_the_list_offers_bulk_actions_only_for_a_state(tenant, operator):
    in_state(tenant, State.FAILED)
    assert 'value="filter"' not in operator.get(JOBS).content.decode()
    assert 'value="filter"' in operator.get(JOBS, {"state": "failed"}).content.decode()


def test_an_unknown_action_is_not_found(operator):
    assert operator.get(f"{MANY}?action=succeed&scope=filter&state=failed").status_code == 404
