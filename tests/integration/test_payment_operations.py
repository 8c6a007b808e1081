"""payments.charge and payments.refund against the sandbox provider: once, wherever the worker dies, and never too much."""

from __future__ import annotations

from uuid import uuid4

import pytest

from accounts.scopes import format_scope
from devstack.ports import free_port
from jobs.models import Job, JobStep
from jobs.services import erase_payload, redrive_job
from jobs.states import State
from operations.payments import refund as refund_operation
from operations.payments.ledger import hold_refund
from operations.payments.models import Account, Charge, Refund
from tests.support.factories import TenantFactory, queued_job
from tests.support.provider import running_provider
from workers.testing import Crash, every_crash, run_operation, run_to_end

pytestmark = pytest.mark.django_db

ORDER = {"amount": 1999, "currency": "usd", "source": "tok_visa"}
IN_TWO = {**ORDER, "capture": "separate"}
FOR_ADA = {**ORDER, "customer": "ada"}


@pytest.fixture(scope="module")
def provider(tmp_path_factory):
    with running_provider(tmp_path_factory.mktemp("provider") / "provider.sqlite") as running:
        yield running


@pytest.fixture(autouse=True)
def _provider_is_ours(provider, settings):
    settings.PAYMENT_PROVIDER_URL, settings.PAYMENT_PROVIDER_KEY = provider.url, provider.key
    settings.PAYMENT_PROVIDER_TIMEOUT_SECONDS = 0.5


@pytest.fixture
def charge(tenant):
    def charge(params=ORDER, **options):
        return run_operation("payments.charge", params, tenant_id=tenant.id, **options)

    return charge


@pytest.fixture
def refund(tenant):
    def refund(charged, amount=None, **options):
        params = {"job": str(charged.job.id)} | ({} if amount is None else {"amount": amount})
        return run_operation("payments.refund", params, tenant_id=tenant.id, **options)

    return refund


def made_by(provider, finished):
    """Return the provider's charges for the job."""
    return [charge for charge in provider.charges() if charge["job"] == str(finished.job.id)]


def given_back(provider, charged):
    """Return the amounts of the provider's refunds of the job's charge."""
    refunds = provider.request("GET", "/v1/refunds", params={"limit": "10000"}).json()["data"]
    [charge] = made_by(provider, charged)
    return [refund["amount"] for refund in refunds if refund["charge"] == charge["id"]]


def steps(finished):
    return {step.name: str(step.state) for step in JobStep.objects.filter(job_id=finished.job.id)}


def balance(tenant, currency="usd"):
    scope = format_scope(tenant_id=tenant.id, mode="test")
    return Account.objects.get(scope=scope, customer="ada", currency=currency).balance


def refused(finished):
    return finished.job.state, finished.error["code"], finished.error["cause"]


def test_a_charge_is_one_call_and_one_effect_by_default(charge, provider):
    charged = charge()
    assert steps(charged) == {"charge": "done"}
    assert charged.calls == 1
    [made] = made_by(provider, charged)
    assert charged.result == {
        "charge_id": made["id"],
        "amount": 1999,
        "amount_decimal": "19.99",
        "currency": "usd",
        "status": "succeeded",
    }


def test_a_separate_capture_authorizes_first_and_then_captures(charge, provider):
    charged = charge(IN_TWO)
    assert steps(charged) == {"authorize": "done", "capture": "done"}
    [made] = made_by(provider, charged)
    assert (made["status"], charged.result["charge_id"]) == ("succeeded", made["id"])


@pytest.mark.parametrize(
    ("source", "cause"), [("tok_declined", "card_declined"), ("tok_insufficient_funds", "insufficient_funds")]
)
@pytest.mark.parametrize("params", [ORDER, IN_TWO], ids=["at once", "in two"])
def test_a_refused_charge_is_not_retried_and_takes_nothing(charge, provider, params, source, cause):
    charged = charge({**params, "source": source})
    assert refused(charged) == (State.FAILED, "operation-failed", cause)
    assert (charged.job.attempt, made_by(provider, charged)) == (1, [])


def test_an_authorization_that_cannot_be_captured_is_canceled(charge, provider):
    charged = charge({**IN_TWO, "source": "tok_capture_declined"})
    assert refused(charged) == (State.FAILED, "operation-failed", "capture_declined")
    assert steps(charged) == {"authorize": "compensated", "capture": "refused", "authorize:undo": "done"}
    assert [made["status"] for made in made_by(provider, charged)] == ["canceled"]


@pytest.mark.parametrize("source", ["tok_cut", "tok_capture_cut", "tok_500_then_ok", "tok_429_then_ok"])
def test_a_separate_capture_survives_a_failing_provider(charge, provider, source):
    charged = charge({**IN_TWO, "source": source})
    assert charged.job.state == State.SUCCEEDED
    assert [made["status"] for made in made_by(provider, charged)] == ["succeeded"]


@pytest.mark.parametrize("source", ["tok_visa", "tok_capture_cut", "tok_capture_declined", "tok_cancel_cut"])
def test_a_separate_capture_is_one_charge_wherever_its_worker_dies(charge, provider, tenant, source):
    params = {**IN_TWO, "source": source, "customer": "ada"}
    expected = charge(params)
    crashes = list(every_crash(lambda: charge(params)))
    assert len(crashes) >= 9
    for crash in crashes:
        charged = charge(params, crash=crash)
        assert charged.has_crashed, crash
        assert (charged.job.state, steps(charged)) == (expected.job.state, steps(expected)), crash
        assert len(made_by(provider, charged)) == 1, crash
        assert made_by(provider, charged)[0]["status"] == made_by(provider, expected)[0]["status"], crash
    if expected.job.state == State.SUCCEEDED:
        assert balance(tenant) == 1999 * (len(crashes) + 2)


def test_a_charge_is_added_to_the_balance_once_wherever_its_worker_dies(charge, tenant):
    charge(FOR_ADA)
    assert balance(tenant) == 1999
    crashes = list(every_crash(lambda: charge(FOR_ADA)))
    for number, crash in enumerate(crashes, 3):
        assert charge(FOR_ADA, crash=crash).has_crashed
        assert balance(tenant) == 1999 * number, crash


@pytest.mark.parametrize(
    ("currency", "decimal"), [("usd", "19.99"), ("jpy", "1999"), ("kwd", "1.999"), ("isk", "1999")]
)
def test_minor_units_depend_on_the_currency(charge, currency, decimal):
    assert charge({**ORDER, "currency": currency}).result["amount_decimal"] == decimal


def test_an_unknown_currency_is_refused_before_anything_is_stored(charge):
    with pytest.raises(ValueError, match="currency"):
        charge({**ORDER, "currency": "xxy"})


def test_a_refund_without_an_amount_refunds_what_is_left(charge, refund, provider):
    charged = charge()
    assert refund(charged, 500).result["amount"] == 500
    rest = refund(charged)
    assert (rest.job.state, rest.result["amount"], rest.result["amount_decimal"]) == (State.SUCCEEDED, 1499, "14.99")
    assert sorted(given_back(provider, charged)) == [500, 1499]


def test_refunds_never_exceed_the_captured_amount(charge, refund, provider):
    charged = charge()
    refund(charged, 1500)
    for amount in (500, 2000):
        too_much = refund(charged, amount)
        assert refused(too_much) == (State.FAILED, "operation-failed", "refund_exceeds_charge")
        assert too_much.calls == 0
    refund(charged)
    assert refused(refund(charged))[2] == "refund_exceeds_charge"
    assert sum(given_back(provider, charged)) == 1999


def test_a_refund_is_made_once_wherever_its_worker_dies(charge, refund, provider, tenant):
    charged = charge({**FOR_ADA, "amount": 100_000})
    crashes = list(every_crash(lambda: refund(charged, 10)))
    assert len(crashes) >= 6
    for number, crash in enumerate(crashes, 2):
        assert refund(charged, 10, crash=crash).has_crashed
        assert given_back(provider, charged) == [10] * number, crash
        assert balance(tenant) == 100_000 - 10 * number, crash
    assert Charge.objects.get(pk=charged.job.id).refunded == 10 * (len(crashes) + 1)


@pytest.mark.parametrize("source", ["tok_refund_cut", "tok_refund_silent"])
def test_a_refund_whose_answer_is_lost_is_made_once(charge, refund, provider, source):
    charged = charge({**ORDER, "source": source})
    assert refund(charged, 10).job.state == State.SUCCEEDED
    assert given_back(provider, charged) == [10]


def test_a_refused_refund_releases_its_hold_wherever_its_worker_dies(charge, refund, provider, tenant):
    charged = charge({**FOR_ADA, "source": "tok_refund_declined"})
    for crash in [None, *every_crash(lambda: refund(charged))]:
        finished = refund(charged, crash=crash)
        assert refused(finished)[:2] == (State.FAILED, "operation-failed"), crash
        assert Charge.objects.get(pk=charged.job.id).refunded == 0, crash
        assert balance(tenant) == 1999, crash
    assert given_back(provider, charged) == []


def test_a_refund_that_is_redriven_after_a_refusal_holds_its_amount_again(charge, refund, tenant):
    charged = charge({**ORDER, "source": "tok_refund_declined"})
    finished = refund(charged, 1000)
    redrive_job(tenant_id=tenant.id, mode="test", job_id=finished.job.id)
    again = run_to_end(finished.job.id)
    assert refused(again) == (State.FAILED, "operation-failed", "refund_declined")
    assert [held.is_held for held in Refund.objects.filter(charge_id=charged.job.id)] == [False]
    assert Charge.objects.get(pk=charged.job.id).refunded == 0


@pytest.mark.parametrize("end", ["failed", "canceled"])
def test_the_hold_of_a_failed_refund_is_available_to_the_next(charge, refund, provider, tenant, *, settings, end):
    charged, url = charge(FOR_ADA), settings.PAYMENT_PROVIDER_URL
    settings.PAYMENT_PROVIDER_URL = f"http://127.0.0.1:{free_port()}"
    vain = refund(charged)
    assert refused(vain)[:2] == (State.FAILED, "attempts-exhausted")
    if end == "canceled":
        Job.objects.filter(pk=vain.job.id).update(state=State.CANCELED, error=None)
    assert balance(tenant) == 0
    settings.PAYMENT_PROVIDER_URL = url
    assert refund(charged).result["amount"] == 1999
    assert given_back(provider, charged) == [1999]
    assert (balance(tenant), Charge.objects.get(pk=charged.job.id).refunded) == (0, 1999)
    # The redriven job is too late.
    redrive_job(tenant_id=tenant.id, mode="test", job_id=vain.job.id)
    assert refused(run_to_end(vain.job.id))[2] == "refund_exceeds_charge"
    assert given_back(provider, charged) == [1999]


def test_the_hold_of_a_refund_that_may_still_be_made_is_kept(charge, refund, tenant):
    charged = charge()
    held = Charge(
        job_id=charged.job.id,
        scope=format_scope(tenant_id=tenant.id, mode="test"),
        charge_id="ch",
        currency="usd",
        captured=1999,
    )
    hold_refund(job_id=queued_job(tenant).id, charge=held, amount=1500, ended_without_effects=lambda _job_id: False)
    assert refund(charged).result["amount"] == 499


def test_a_started_refund_ends_although_its_charge_was_erased_meanwhile(charge, refund, provider, tenant, monkeypatch):
    charged, for_job = charge(), refund_operation.provider_for

    class Erasing:
        def __init__(self, provider):
            self._provider = provider

        def __getattr__(self, name):
            return getattr(self._provider, name)

        def refund(self, *args, **options):
            erase_payload(tenant_id=tenant.id, mode="test", job_id=charged.job.id)
            return self._provider.refund(*args, **options)

    monkeypatch.setattr(refund_operation, "provider_for", lambda job: Erasing(for_job(job)))
    refunded = refund(charged, 10, crash=Crash("after_effect"))
    assert refunded.has_crashed
    assert refunded.result["amount"] == 10
    assert given_back(provider, charged) == [10]


def test_only_a_succeeded_charge_of_the_same_tenant_can_be_refunded(charge, refund, provider):
    charged, stranger = charge(), TenantFactory()
    params = {"job": str(charged.job.id)}
    for found in (
        run_operation("payments.refund", params, tenant_id=stranger.id),
        run_operation("payments.refund", params, tenant_id=charged.job.tenant_id, mode="live"),
        run_operation("payments.refund", {"job": str(uuid4())}, tenant_id=charged.job.tenant_id),
        refund(charge({**ORDER, "source": "tok_declined"})),
        refund(refund(charged, 1)),
    ):
        assert refused(found) == (State.FAILED, "operation-failed", "no_such_charge")
    assert given_back(provider, charged) == [1]
