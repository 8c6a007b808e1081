"""An operator uses the admin in a real browser against a real api and worker: find, read, act, check the audit log.

`--screenshots docs/screenshots` saves the pictures that docs/how-to/admin.md shows.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connections, transaction

from jobs import transitions
from jobs.models import Job
from jobs.payloads import encode_payload
from jobs.registry import current_operation
from jobs.services import cancel_job
from jobs.states import State
from jobs.submission import Submission, submit_job
from tests.support.admin_pages import PASSWORD, user_with
from tests.support.browser import NO_CHROMIUM, chromium, opened_browser
from tests.support.factories import TenantFactory, backdate, claim
from tests.support.scenarios import age_step, begin, close, history
from tests.support.stack import running_stack
from tests.support.waiting import until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.skipif(chromium() is None, reason=NO_CHROMIUM)]

OPERATOR = (
    *("view_job", "view_pause", "view_tenant", "view_apikey", "view_auditentry", "view_idempotencyrecord"),
    *("operate_job", "add_apikey", "change_apikey"),
)
MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker, tmp_path_factory):
    with django_db_blocker.unblock(), running_stack(tmp_path_factory.mktemp("admin")) as stack:
        stack.start_workers("worker")
        stack.start_api()
        yield stack


@pytest.fixture
def browser(stack, tmp_path, monkeypatch):
    """Return a browser in which the operator ada is logged in."""
    # Playwright keeps an event loop in this thread, in which Django would refuse to read the database.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    with opened_browser(tmp_path / "profile") as page:
        page.base = f"{stack.urls['api']}/admin"
        ada = user_with(*OPERATOR)
        page.goto(page.base)
        page.fill("#id_username", ada.username)
        page.fill("#id_password", PASSWORD)
        page.click("input[type=submit]")
        yield page
        connections.close_all()  # those that belong to the loop, which is about to end


@pytest.fixture
def photograph(browser, request, tmp_path):
    """Return a function that saves a picture of the window under a name."""
    folder = request.config.getoption("--screenshots") or tmp_path

    def take(name):
        browser.screenshot(path=f"{folder}/{name}.png")

    return take


def charge_job(tenant, key, **params):
    submission = Submission(
        operation=current_operation("payments.charge"),
        params={"amount": 1999, "currency": "usd", "source": "tok_visa", **params},
    )
    return submit_job(tenant_id=tenant.id, mode="test", submission=submission, idempotency_key=key)


def claimed(tenant, key):
    """Return a charge with an attempt of this test. It is published when the real worker can no longer claim it."""
    with transaction.atomic():
        return claim(charge_job(tenant, key).id, worker="worker-7c9f:31")


def failed_charge(tenant, key):
    """Return a charge that failed after three attempts."""
    job = claimed(tenant, key)
    for _ in range(2):
        detail = "The provider answered 503, password=hunter2 and all."
        with transaction.atomic():
            transitions.retry_job(
                job_id=job.id, attempt=job.attempt, delay=-MINUTE, detail=detail, cause="provider-unavailable"
            )
            job = claim(job.id, worker="worker-5d2a:17")
    detail = "The provider answered 401: the service's own key is refused."
    return transitions.fail_job(job_id=job.id, attempt=job.attempt, detail=detail, cause="provider-refuses-us")


def doubtful_charge(tenant, key):
    """Return a charge that was sent and never answered."""
    job = claimed(tenant, key)
    begin(job, "charge")
    detail = "The request was cut after it was sent, and the provider cannot be asked about it any more."
    return transitions.stop_as_unknown(job_id=job.id, attempt=job.attempt, detail=detail)


def some_others(tenant):
    """Create other jobs for the list."""
    for number in range(6):
        job = claimed(tenant, f"order-{1010 + number}")
        begin(job, "charge")
        close(job, "charge", "done", {"id": f"ch_{number}", "amount": 1999})
        transitions.succeed_job(
            job_id=job.id, attempt=job.attempt, result=encode_payload({"charge_id": f"ch_{number}"})
        )
    claimed(tenant, "order-1020")
    with transaction.atomic():
        unwanted = charge_job(tenant, "order-1021")
        cancel_job(tenant_id=tenant.id, mode="test", job_id=unwanted.id)


def find(browser, name):
    """Search for the name on the list of jobs."""
    browser.goto(f"{browser.base}/jobs/job/")
    browser.fill("#q", name)
    browser.press("#q", "Enter")
    browser.wait_for_selector("table.timeline")


def heading(browser):
    return browser.inner_text("h1")


def test_an_operator_finds_a_failed_job_by_its_key_and_redrives_it(stack, browser, photograph):
    acme = TenantFactory(name="acme")
    some_others(acme)
    job = failed_charge(acme, "order-1001")
    browser.goto(f"{browser.base}/jobs/job/")
    photograph("job-list")
    find(browser, "order-1001")
    assert heading(browser) == "payments.charge failed"
    timeline = browser.inner_text("table.timeline")
    for part in ("Accepted", "Attempt 1", "Attempt 3", "failed, on", "Settled: failed"):
        assert part in timeline
    assert browser.locator("table.timeline svg rect").count() == 6  # three waits, three attempts
    assert "hunter2" not in browser.content()
    browser.click("text=Redrive")
    browser.fill("#id_note", "Our key at the provider is renewed.")
    browser.click("button:has-text('Redrive')")
    assert "The job is queued again." in browser.inner_text(".messagelist")
    until(lambda: Job.objects.get(pk=job.id).state == State.SUCCEEDED, seconds=60)
    browser.reload()
    assert heading(browser) == "payments.charge succeeded"
    assert "Redriven" in browser.inner_text("table.timeline")
    photograph("job-page")
    assert len(stack.provider.charges(f"semel-{job.id}-charge-1")) == 1
    assert history(job.id)[-3:] == ["redrive", "claim", "succeed"]


def test_an_operator_resolves_an_unknown_job_and_finds_it_in_the_audit_log(stack, browser, photograph):
    acme = TenantFactory(name="acme")
    some_others(acme)
    job = doubtful_charge(acme, "order-1002")
    backdate(job.id, created_at=2 * MINUTE)
    age_step(job.id, "charge", MINUTE)
    failed_charge(acme, "order-1003")
    browser.goto(f"{browser.base}/jobs/job/attention/")
    assert "Unknown 1" in browser.inner_text("#content")
    photograph("needs-attention")
    browser.click(f"text={job.id}")
    browser.wait_for_selector("table.timeline")
    assert "The outcome of an effect is unknown" in browser.inner_text("#content")
    assert f"semel-{job.id}-charge-1" in browser.inner_text(".notice")
    browser.click("text=Resolve")
    browser.check("input[name=verdict][value=done]")
    browser.check("input[name=then][value=succeeded]")
    browser.fill("#id_result", '{"charge_id": "ch_4711"}')
    photograph("resolve")
    browser.click("button:has-text('Resolve')")
    assert Job.objects.get(pk=job.id).state == State.UNKNOWN  # the browser itself asks for the note
    browser.fill("#id_note", "The provider's support found ch_4711 in their books.")
    browser.click("button:has-text('Resolve')")
    assert heading(browser) == "payments.charge succeeded"
    browser.goto(f"{browser.base}/accounts/auditentry/")
    [entry] = browser.locator("table.audit tbody tr", has_text="job.resolve").all()
    row = entry.inner_text()
    for part in ("user ada", f"job/{job.id}", "The provider's support found ch_4711 in their books."):
        assert part in row
