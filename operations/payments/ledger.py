"""The ledger of charges, refunds and balances. Functions that write run inside `job.commit` and commit with it.

Rows are changed by compare-and-swap: a row is written only if its version is still the one that was read; otherwise it is read
again, after the other writer's commit. Lock order: the holds on a charge by id, then the charge, then the account. Two attempts
of one job are kept apart by the fence, which `job.commit` checks last.
"""

from collections.abc import Callable, Collection
from typing import TypeVar
from uuid import UUID

from jobs.operations import PermanentError, RetryableError
from operations.payments.models import Account, Charge, Refund

T = TypeVar("T")

# Each failed swap means that another writer succeeded: after so many in a row, the job is retried later.
_TRIES = 20


class RefundTooLarge(PermanentError):  # noqa: N818 - a refusal
    """The refund exceeds what is left of the charge."""


class InsufficientFunds(PermanentError):  # noqa: N818 - a refusal
    """The customer's balance is smaller than the amount to be taken from it."""


def charges_of(job_ids: Collection[UUID], *, scope: str) -> dict[UUID, Charge]:
    """Return the scope's charges that the ledger has for these jobs. Served by payment_charge's primary key."""
    if not job_ids:
        return {}
    return {charge.job_id: charge for charge in Charge.objects.filter(scope=scope, pk__in=job_ids)}


def record_charge(charge: Charge) -> None:
    """Record the charge once for its job, and add it to its customer's balance."""
    if _ensure_charge(charge):
        _change_customer_balance(charge, by=charge.captured)


def hold_refund(
    *, job_id: UUID, charge: Charge, amount: int | None, ended_without_effects: Callable[[UUID], bool]
) -> int:
    """Hold this amount of the charge (None: what is left) for the job, subtract it from the balance, and return it.

    A repeat changes nothing, unless the hold was released: then the amount is held again. Raises RefundTooLarge or
    InsufficientFunds. First releases the holds of jobs that failed or were canceled without giving anything back: nothing else
    releases those, and a redrive of such a job holds the amount again if it still can.
    """
    _ensure_charge(charge)
    holders = _lock_holds(charge.job_id)
    for other in holders:
        if other != job_id and ended_without_effects(other):
            release_refund(job_id=other)
    earlier = Refund.objects.filter(pk=job_id).first()
    if earlier is not None and job_id in holders:
        return earlier.amount
    amount = earlier.amount if earlier is not None else amount
    charge, amount = _add_refunded(charge.job_id, amount)
    _change_customer_balance(charge, by=-amount)
    Refund.objects.update_or_create(pk=job_id, defaults={"charge": charge, "amount": amount, "is_held": True})
    return amount


def _lock_holds(charge_job_id: UUID) -> list[UUID]:
    """Lock the holds on the charge until the transaction ends, and return the ids of their jobs.

    Locked before a job's state is read: a job that is redriven meanwhile finds its hold either released or kept. Locked in one
    order, the caller's own included, so that no two callers deadlock.
    """
    holds = Refund.objects.filter(charge_id=charge_job_id, is_held=True).order_by("pk")
    return list(holds.select_for_update(no_key=True).values_list("pk", flat=True))


def release_refund(*, job_id: UUID) -> None:
    """Release what the job holds and add it to the balance again, because nothing was given back. A repeat changes nothing."""
    hold = Refund.objects.filter(pk=job_id, is_held=True).first()
    if hold is None or not Refund.objects.filter(pk=job_id, is_held=True).update(is_held=False):
        return
    charge, _ = _add_refunded(hold.charge_id, -hold.amount)
    _change_customer_balance(charge, by=hold.amount)


def change_balance(*, scope: str, customer: str, currency: str, by: int) -> int:
    """Change the balance and return it. Accounts start at zero and never go below: raises InsufficientFunds."""
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
        unchanged = Account.objects.filter(pk=account.pk, version=account.version)
        return balance if unchanged.update(balance=balance, version=account.version + 1) else None

    return _repeat_until_swapped(swap)


def _change_customer_balance(charge: Charge, *, by: int) -> None:
    if charge.customer is not None:
        change_balance(scope=charge.scope, customer=charge.customer, currency=charge.currency, by=by)


def _add_refunded(charge_job_id: UUID, amount: int | None) -> tuple[Charge, int]:
    """Add the amount (None: what is left) to the charge's refunds; a negative amount takes it off again."""

    def swap() -> tuple[Charge, int] | None:
        charge = Charge.objects.get(pk=charge_job_id)
        left = charge.captured - charge.refunded
        added = left if amount is None else amount
        if added > left or added == 0:
            raise RefundTooLarge(
                f"Of {charge.captured} {charge.currency} captured, {left} can still be refunded.",
                code="refund_exceeds_charge",
            )
        unchanged = Charge.objects.filter(pk=charge.pk, version=charge.version)
        swapped = unchanged.update(refunded=charge.refunded + added, version=charge.version + 1)
        return (charge, added) if swapped else None

    return _repeat_until_swapped(swap)


def _ensure_charge(charge: Charge) -> bool:
    """Insert the charge unless the ledger has it; return True if this call may have inserted it."""
    if Charge.objects.filter(pk=charge.job_id).exists():
        return False
    Charge.objects.bulk_create([charge], ignore_conflicts=True)
    return True


def _repeat_until_swapped(swap: Callable[[], T | None]) -> T:
    for _ in range(_TRIES):
        if (swapped := swap()) is not None:
            return swapped
    raise RetryableError("Too many concurrent changes of the same balance.", code="balance-contended")
