"""The ledger under real threads: no update is lost, no balance is below zero, a crash leaves no partial change."""

from __future__ import annotations

from functools import partial
from uuid import uuid4

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from operations.payments import ledger
from operations.payments.ledger import InsufficientFunds, RefundTooLarge, change_balance, record_charge, release_refund
from operations.payments.models import Account, Charge, Refund
from tests.support.threads import at_once

# None of the jobs that hold a refund here has ended.
hold_refund = partial(ledger.hold_refund, ended_without_effects=lambda _job_id: False)

pytestmark = pytest.mark.django_db(transaction=True)

made_up = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
# For each thread: its changes of one balance, and whether it dies before its commit.
CHANGES = st.lists(
    st.tuples(st.lists(st.integers(-60, 60), min_size=1, max_size=4), st.booleans()), min_size=2, max_size=5
)


class Dies(Exception):  # noqa: N818 - what happened
    """The process dies before the commit."""


def account():
    return {"scope": f"{uuid4()}", "customer": "ada", "currency": "usd"}


def charged(amount=1000, *, customer="ada"):
    return Charge(
        job_id=uuid4(), scope=f"{uuid4()}", charge_id="ch_1", currency="usd", captured=amount, customer=customer
    )


def balance_of(name):
    return Account.objects.get(**name).balance


def in_one_commit(change, *, dies=False):
    """Return what the thread has committed: nothing if it died or was refused."""

    def run():
        with transaction.atomic(durable=True):
            done = change()
            if dies:
                raise Dies
            return done

    return run


@made_up
@given(CHANGES)
def test_each_committed_change_counts_once_and_no_balance_is_below_zero(changes):
    name = account()
    change_balance(**name, by=100)

    def apply(amounts):
        for amount in amounts:
            assert change_balance(**name, by=amount) >= 0
        return sum(amounts)

    done = at_once(*[in_one_commit(lambda amounts=amounts: apply(amounts), dies=dies) for amounts, dies in changes])
    for (_, dies), outcome in zip(changes, done, strict=True):
        assert isinstance(outcome, int | InsufficientFunds) or (dies and isinstance(outcome, Dies)), outcome
    assert balance_of(name) == 100 + sum(outcome for outcome in done if isinstance(outcome, int)) >= 0


def test_a_balance_accepts_only_the_debits_that_it_covers():
    name = account()
    change_balance(**name, by=100)
    done = at_once(*[in_one_commit(lambda: change_balance(**name, by=-30)) for _ in range(8)])
    assert sum(isinstance(outcome, int) for outcome in done) == 3
    assert sum(isinstance(outcome, InsufficientFunds) for outcome in done) == 5
    assert balance_of(name) == 10


def test_concurrent_first_changes_create_one_account():
    name = account()
    at_once(*[in_one_commit(lambda: change_balance(**name, by=7)) for _ in range(8)])
    assert balance_of(name) == 56


def test_accounts_of_other_scopes_customers_and_currencies_are_not_changed():
    name = account()
    others = [{**name, "scope": "other"}, {**name, "customer": "bob"}, {**name, "currency": "eur"}]
    for one in [name, *others]:
        change_balance(**one, by=5)
    change_balance(**name, by=-5)
    assert [balance_of(one) for one in [name, *others]] == [0, 5, 5, 5]


@made_up
@given(st.lists(st.tuples(st.integers(1, 600), st.booleans()), min_size=2, max_size=6))
def test_concurrent_refunds_never_exceed_the_charge(refunds):
    charge = charged()
    record_charge(charge)
    done = at_once(
        *[
            in_one_commit(lambda amount=amount: hold_refund(job_id=uuid4(), charge=charge, amount=amount), dies=dies)
            for amount, dies in refunds
        ]
    )
    held = [outcome for outcome in done if isinstance(outcome, int)]
    assert all(isinstance(outcome, int | RefundTooLarge | Dies) for outcome in done), done
    assert Charge.objects.get(pk=charge.job_id).refunded == sum(held) <= 1000
    assert balance_of({"scope": charge.scope, "customer": "ada", "currency": "usd"}) == 1000 - sum(held)
    # No refund was refused that would have fitted.
    left = 1000 - sum(held)
    refused = [
        amount for (amount, _), outcome in zip(refunds, done, strict=True) if isinstance(outcome, RefundTooLarge)
    ]
    if not any(dies for _, dies in refunds):
        assert all(amount > left for amount in refused)


def test_two_attempts_of_one_refund_hold_it_once():
    charge, job_id = charged(), uuid4()
    record_charge(charge)
    hold = in_one_commit(lambda: hold_refund(job_id=job_id, charge=charge, amount=400))
    assert [hold(), hold()] == [400, 400]
    assert Charge.objects.get(pk=charge.job_id).refunded == 400


def test_jobs_that_hold_again_concurrently_lock_in_one_order():
    """Each job locks the holds of the others. One that locked its own hold last would deadlock with another."""
    charge, jobs = charged(), [uuid4() for _ in range(4)]
    record_charge(charge)
    holds = [
        in_one_commit(lambda job_id=job_id: hold_refund(job_id=job_id, charge=charge, amount=100)) for job_id in jobs
    ]
    for hold in holds:
        hold()
    for _ in range(10):
        assert at_once(*holds) == [100] * 4
    assert Charge.objects.get(pk=charge.job_id).refunded == 400


def test_a_hold_that_is_released_twice_counts_once():
    charge, job_id = charged(customer=None), uuid4()
    in_one_commit(lambda: hold_refund(job_id=job_id, charge=charge, amount=400))()
    at_once(*[in_one_commit(lambda: release_refund(job_id=job_id)) for _ in range(4)])
    assert Charge.objects.get(pk=charge.job_id).refunded == 0
    assert [held.is_held for held in Refund.objects.filter(charge_id=charge.job_id)] == [False]


def test_concurrent_holds_and_releases_leave_what_is_held():
    charge = charged()
    record_charge(charge)
    jobs = [uuid4() for _ in range(6)]
    for job_id in jobs[:3]:
        in_one_commit(partial(hold_refund, job_id=job_id, charge=charge, amount=100))()
    at_once(
        *[in_one_commit(lambda job_id=job_id: release_refund(job_id=job_id)) for job_id in jobs[:3]],
        *[
            in_one_commit(lambda job_id=job_id: hold_refund(job_id=job_id, charge=charge, amount=100))
            for job_id in jobs[3:]
        ],
    )
    held = sum(refund.amount for refund in Refund.objects.filter(charge_id=charge.job_id, is_held=True))
    assert Charge.objects.get(pk=charge.job_id).refunded == held == 300
