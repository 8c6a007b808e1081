"""payments.refund: what a job has charged is given back, wholly or in part, and never more than was captured."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from rest_framework import serializers

from jobs.fields import StrictIntegerField, StrictUUIDField
from jobs.operations import EffectRefused, Operation, PermanentError
from operations.payments.currencies import in_major_units
from operations.payments.ledger import Charged, hold_refund, release_refund
from operations.payments.provider import KEY_WINDOW, call_timeout, provider_for

if TYPE_CHECKING:
    from uuid import UUID

    from jobs.operations import JobHandle


class RefundParams(serializers.Serializer[dict[str, Any]]):
    """What is given back, and how much of it."""

    job = StrictUUIDField(help_text="The id of the payments.charge job.")
    amount = StrictIntegerField(
        min_value=1,
        max_value=2**53 - 1,
        required=False,
        help_text="In minor units; without it, all that is left of the charge.",
    )


class RefundResult(serializers.Serializer[dict[str, Any]]):
    """The refund, as the provider knows it."""

    refund_id = serializers.CharField()
    charge_id = serializers.CharField()
    amount = serializers.IntegerField()
    amount_decimal = serializers.CharField(allow_null=True)
    currency = serializers.CharField()
    status = serializers.CharField()


class RefundPayment(Operation):
    """Refund a charge. What it gives back is held in our own book first, so that two refunds at once cannot exceed the charge."""

    name = "payments.refund"
    params = RefundParams
    result = RefundResult
    timeout_seconds = 60

    def perform(self, params: dict[str, Any], job: JobHandle) -> dict[str, Any]:
        """The money is given back; the result names the refund as the provider does.

        The amount is held in a transaction of each attempt's own, which finds what an earlier one held: so a redrive after a
        refusal, which let it go, holds it anew. One that fails otherwise goes on holding it, since a redrive goes on from there,
        until another refund of the charge needs it.
        """
        # Remembered, since a later attempt may not find it any more: it can be erased.
        charge = job.step("charge", partial(_find_charge, params["job"], job))
        provider = provider_for(job)
        charged = Charged(
            job_id=params["job"],
            scope=job.scope,
            charge_id=charge["charge_id"],
            currency=charge["currency"],
            amount=charge["amount"],
        )
        hold = partial(hold_refund, job_id=job.id, charged=charged, amount=params.get("amount"))
        amount = job.commit(f"hold:{job.attempt}", hold)
        try:
            refund = job.effect(
                "refund",
                lambda key: provider.refund(charge["charge_id"], amount=amount, idempotency_key=key),
                timeout=call_timeout(),
                key_window=KEY_WINDOW,
                reconcile=provider.find_refund,
            )
        except EffectRefused:
            job.commit(f"release:{job.attempt}", partial(release_refund, job_id=job.id))
            raise
        return {
            "refund_id": refund["id"],
            "charge_id": charge["charge_id"],
            "amount": amount,
            "amount_decimal": in_major_units(amount, charge["currency"]),
            "currency": charge["currency"],
            "status": refund["status"],
        }


def _find_charge(charge_job: UUID, job: JobHandle) -> dict[str, Any]:
    """What has to be known of the charge. Raises PermanentError where there is none that has succeeded."""
    charge = job.result_of(charge_job, operation="payments.charge")
    if charge is None:
        raise PermanentError("There is no such charge that has succeeded.", code="no_such_charge")
    return {name: charge[name] for name in ("charge_id", "amount", "currency")}
