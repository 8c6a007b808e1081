"""payments.charge: money is taken from a customer, once."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.validators import RegexValidator
from rest_framework import serializers

from jobs.fields import StrictCharField, StrictIntegerField
from jobs.operations import Operation
from workers.gateways.payments import PaymentProvider

if TYPE_CHECKING:
    from jobs.operations import JobHandle

# What the attempt needs around the call on a busy machine.
CALL_SLACK = timedelta(seconds=2)
# How long the provider remembers a key.
KEY_WINDOW = timedelta(hours=24)


class ChargeParams(serializers.Serializer[dict[str, Any]]):
    """How much, and from where."""

    amount = StrictIntegerField(
        min_value=1, max_value=2**53 - 1, help_text="In minor units: 1999 is 19.99 USD."
    )
    currency = StrictCharField(
        validators=[RegexValidator(r"\A[a-z]{3}\Z", "Three lower-case letters, such as usd.")],
        help_text="Three lower-case letters (ISO 4217), such as usd.",
    )
    source = StrictCharField(  # type: ignore[assignment] # the metaclass takes it away before Field.source is looked for
        max_length=255, help_text="The provider's token of the card or account."
    )
    description = StrictCharField(max_length=500, required=False, allow_blank=True)


class ChargeResult(serializers.Serializer[dict[str, Any]]):
    """The charge, as the provider knows it."""

    charge_id = serializers.CharField()
    amount = serializers.IntegerField()
    currency = serializers.CharField()
    status = serializers.CharField()


class ChargePayment(Operation):
    """Charge a payment. A repeat under the same key is safe: the provider remembers keys, and can be asked."""

    name = "payments.charge"
    params = ChargeParams
    result = ChargeResult
    timeout_seconds = 60

    def perform(self, params: dict[str, Any], job: JobHandle) -> dict[str, Any]:
        """The customer is charged; the result names the charge as the provider does."""
        timeout = timedelta(seconds=settings.PAYMENT_PROVIDER_TIMEOUT_SECONDS)
        provider = PaymentProvider(
            settings.PAYMENT_PROVIDER_URL,
            settings.PAYMENT_PROVIDER_KEY,
            job_id=job.id,
            fence=job.fence,
            timeout=timeout,
        )
        charge = job.effect(
            "charge",
            lambda key: provider.charge(**params, idempotency_key=key),
            timeout=timeout + CALL_SLACK,
            key_window=KEY_WINDOW,
            reconcile=provider.find_charge,
        )
        return {
            "charge_id": charge["id"],
            "amount": charge["amount"],
            "currency": charge["currency"],
            "status": charge["status"],
        }
