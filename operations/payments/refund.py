"""payments.refund: give back what a job has charged, in whole or in part, and never more than was captured."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rest_framework import serializers

from jobs.fields import StrictIntegerField, StrictUUIDField
from jobs.operations import EffectRefused, Operation, PermanentError
from operations.payments.currencies import to_major_units
from operations.payments.gateway import KEY_WINDOW, call_timeout, provider_for
from operations.payments.ledger import hold_refund, release_refund
from operations.payments.models import Charge

if TYPE_CHECKING:
    from jobs.operations import JobHandle


class RefundParams(serializers.Serializer[dict[str, Any]]):
    """Which charge to refund, and how much of it."""

    job = StrictUUIDField(help_text="The id of the payments.charge job.")
    amount = StrictIntegerField(
        min_value=1,
        max_value=2**53 - 1,
        required=False,
        help_text="In minor units; if omitted, all that is left of the charge.",
    )


class RefundResult(serializers.Serializer[dict[str, Any]]):
    """The refund as the provider returned it."""

    refund_id = serializers.CharField()
    charge_id = serializers.CharField()
    amount = serializers.IntegerField()
    amount_decimal = serializers.CharField(allow_null=True)
    currency = serializers.CharField()
    status = serializers.CharField()


class RefundPayment(Operation):
    """Refund a charge. The amount is held in our ledger first, so that concurrent refunds cannot exceed the charge."""

    name = "payments.refund"
    params = RefundParams
    result = RefundResult
    timeout_seconds = 60

    def perform(self, params: dict[str, Any], job: JobHandle) -> dict[str, Any]:
        """Give the money back and return the refund.

        Each attempt holds the amount in a transaction of its own, which finds what an earlier attempt holds. So a redrive after
        a refusal, which released the hold, holds the amount again. A job that fails otherwise keeps its hold, because a redrive
        continues from there, until another refund of the charge needs it.
        """
        # Recorded, because a later attempt may not find the charge any more: it can be erased.
        charge = job.step("charge", partial(_find_charge, params["job"], job))
        provider = provider_for(job)
        entry = Charge(
            job_id=params["job"],
            scope=job.scope,
            charge_id=charge["charge_id"],
            currency=charge["currency"],
            captured=charge["amount"],
        )
        hold = partial(
            hold_refund,
            job_id=job.id,
            charge=entry,
            amount=params.get("amount"),
            ended_without_effects=job.ended_without_effects,
        )
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
            "amount_decimal": to_major_units(amount, charge["currency"]),
            "currency": charge["currency"],
            "status": refund["status"],
        }


def _find_charge(charge_job: UUID, job: JobHandle) -> dict[str, Any]:
    charge = job.result_of(charge_job, operation="payments.charge")
    if charge is None:
        raise PermanentError("No charge has this job id, or it has not succeeded or was erased.", code="no_such_charge")
    return {name: charge[name] for name in ("charge_id", "amount", "currency")}
