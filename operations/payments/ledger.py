"""The book of charges, refunds and balances: each function is called inside `job.commit`, and shares its fate.

Rows are changed by compare-and-swap: read, computed here, and written only if the version is still the one that was read. Who
comes second waits for the first one's commit, finds another version and reads again. Order: what is held of the charge, by id,
then the charge, then the account. Two attempts of one job are kept apart by the fence, which `job.commit` checks last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from jobs.operations import PermanentError, RetryableError
from jobs.selectors import ended_without_effects
from operations.payments.models import Account, Charge, Refund

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

T = TypeVar("T")

# Each failure means that another one got through: so many in a row are a crowd, and better met again later.
_TRIES = 20


class RefundTooLarge(PermanentError):  # noqa: N818 - a refusal
    """More than is left of the charge."""


class InsufficientFunds(PermanentError):  # noqa: N818 - a refusal
    """The customer's balance is smaller than what is to be taken from it."""


@dataclass(frozen=True, kw_only=True)
class Charged:
    """A charge as the job that made it knows it."""

    job_id: UUID
    scope: str
    charge_id: str
    currency: str
    amount: int
    customer: str | None = None


def book_charge(charged: Charged) -> None:
    """The charge is in the book, once for its job, and its customer's balance has grown by it."""
    if _ensure_charge(charged) and charged.customer is not None:
        change_balance(
            scope=charged.scope, customer=charged.customer, currency=charged.currency, by=charged.amount
        )


def hold_refund(*, job_id: UUID, charged: Charged, amount: int | None) -> int:
    """So much of the charge (None: what is left) is this job's to give back, and off its customer's balance; how much it is.

    The same again changes nothing, unless it was let go: then it is held anew. Raises RefundTooLarge or InsufficientFunds.
    What jobs hold that have failed or were canceled without giving anything back is let go first: nobody else would, and a
    redrive of such a job holds it anew, if it still can.
    """
    _ensure_charge(charged)
    holders = _lock_holds(charged.job_id)
    for other in holders:
        if other != job_id and ended_without_effects(other):
            release_refund(job_id=other)
    held = Refund.objects.filter(pk=job_id).first()
    if held is not None and job_id in holders:
        return held.amount
    amount = held.amount if held is not None else amount
    charge, amount = _take_from_charge(charged.job_id, amount)
    if charge.customer is not None:
        change_balance(scope=charge.scope, customer=charge.customer, currency=charge.currency, by=-amount)
    Refund.objects.update_or_create(pk=job_id, defaults={"charge": charge, "amount": amount, "is_held": True})
    return amount


def _lock_holds(charge_job_id: UUID) -> list[UUID]:
    """The jobs that hold a part of the charge, and go on holding it until this transaction ends, unless it lets go.

    Locked before such a job is looked at: one that was redriven meanwhile finds its hold gone, or has kept it. All in one
    order, the caller's own among them, so that no two wait for each other.
    """
    holds = Refund.objects.filter(charge_id=charge_job_id, is_held=True).order_by("pk")
    return list(holds.select_for_update(no_key=True).values_list("pk", flat=True))


def release_refund(*, job_id: UUID) -> None:
    """What the job was to give back counts as taken again: it was not given back. Twice changes nothing."""
    held = Refund.objects.filter(pk=job_id, is_held=True).first()
    if held is None or not Refund.objects.filter(pk=job_id, is_held=True).update(is_held=False):
        return
    charge, _ = _take_from_charge(held.charge_id, -held.amount)
    if charge.customer is not None:
        change_balance(scope=charge.scope, customer=charge.customer, currency=charge.currency, by=held.amount)


def change_balance(*, scope: str, customer: str, currency: str, by: int) -> int:
    """The account's new balance, never below zero. Raises InsufficientFunds. An account that was not there begins at zero."""
    name = {"scope": scope, "customer": customer, "currency": currency}

    def swap() -> int | None:
        account = Account.objects.filter(**name).first()
        if account is None:
            Account.objects.bulk_create([Account(**name)], ignore_conflicts=True)
            return None
        balance = account.balance + by
        if balance < 0:
            raise InsufficientFunds(
                f"The balance of {customer} is {account.balance} {currency}.", code="insufficient_funds"
            )
        swapped = Account.objects.filter(pk=account.pk, version=account.version)
        return balance if swapped.update(balance=balance, version=account.version + 1) else None

    return _until_swapped(swap)


def _take_from_charge(charge_job_id: UUID, amount: int | None) -> tuple[Charge, int]:
    def swap() -> tuple[Charge, int] | None:
        charge = Charge.objects.get(pk=charge_job_id)
        left = charge.captured - charge.refunded
        taken = left if amount is None else amount
        if taken > left or taken == 0:
            raise RefundTooLarge(
                f"Of {charge.captured} {charge.currency} that were captured {left} can be given back.",
                code="refund_exceeds_charge",
            )
        swapped = Charge.objects.filter(pk=charge.pk, version=charge.version).update(
            refunded=charge.refunded + taken, version=charge.version + 1
        )
        return (charge, taken) if swapped else None

    return _until_swapped(swap)


def _ensure_charge(charged: Charged) -> bool:
    """Whether the charge is in the book by this call: an earlier one's row stays as it is."""
    row = Charge(
        job_id=charged.job_id,
        scope=charged.scope,
        charge_id=charged.charge_id,
        customer=charged.customer,
        currency=charged.currency,
        captured=charged.amount,
    )
    if Charge.objects.filter(pk=charged.job_id).exists():
        return False
    Charge.objects.bulk_create([row], ignore_conflicts=True)
    return True


def _until_swapped(swap: Callable[[], T | None]) -> T:
    """What `swap` returns once it was not None."""
    for _ in range(_TRIES):
        if (swapped := swap()) is not None:
            return swapped
    raise RetryableError("Too many others change the same balance.", code="balance-contended")
