"""payments.charge: take money from a customer once, in one call or by authorizing it first and then capturing it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from django.core.validators import RegexValidator
from rest_framework import serializers

from jobs.fields import StrictCharField, StrictIntegerField
from jobs.operations import Compensation, Operation
from operations.payments.currencies import MINOR_DIGITS, to_major_units
from operations.payments.gateway import KEY_WINDOW, call_timeout, provider_for
from operations.payments.ledger import record_charge
from operations.payments.models import Charge

if TYPE_CHECKING:
    from jobs.operations import JobHandle
    from operations.payments.gateway import PaymentProvider


class ChargeParams(serializers.Serializer[dict[str, Any]]):
    """How much to charge, and where it comes from."""

    amount = StrictIntegerField(
        min_value=1, max_value=2**53 - 1, help_text="In minor units: 1999 is 19.99 USD, 1999 JPY and 1.999 KWD."
    )
    currency = StrictCharField(
        validators=[
            RegexValidator(
                rf"\A(?:{'|'.join(MINOR_DIGITS)})\Z",
                "Use the three lower-case letters of a currency (ISO 4217), such as usd.",
            )
        ],
        help_text="Three lower-case letters (ISO 4217), such as usd.",
    )
    source = StrictCharField(  # type: ignore[assignment] # the metaclass removes it before Field.source is looked up
        max_length=255, help_text="The provider's token of the card or account."
    )
    description = StrictCharField(max_length=500, required=False, allow_blank=True)
    capture = serializers.ChoiceField(
        choices=["automatic", "separate"],
        required=False,
        help_text="separate: authorize the money first and then capture it, in two calls.",
    )
    customer = StrictCharField(
        max_length=255, required=False, help_text="The customer whose balance the charge is added to."
    )


class ChargeResult(serializers.Serializer[dict[str, Any]]):
    """The charge as the provider returned it."""

    charge_id = serializers.CharField()
    amount = serializers.IntegerField()
    amount_decimal = serializers.CharField(allow_null=True, help_text="In major units: 19.99, or 1999 in JPY.")
    currency = serializers.CharField()
    status = serializers.CharField()


class ChargePayment(Operation):
    """Charge a payment. A repeat under the same key is safe: the provider remembers keys, and can be queried by key."""

    name = "payments.charge"
    params = ChargeParams
    result = ChargeResult
    timeout_seconds = 60

    def perform(self, params: dict[str, Any], job: JobHandle) -> dict[str, Any]:
        """Charge the customer and return the charge."""
        provider = provider_for(job)
        order: dict[str, Any] = {
            name: params[name] for name in ("amount", "currency", "source", "description") if name in params
        }
        if params.get("capture") == "separate":
            charge = _authorize_and_capture(provider, order, job)
        else:
            charge = job.effect(
                "charge",
                lambda key: provider.charge(**order, idempotency_key=key),
                timeout=call_timeout(),
                key_window=KEY_WINDOW,
                reconcile=provider.find_charge,
            )
        if "customer" in params:
            entry = Charge(
                job_id=job.id,
                scope=job.scope,
                charge_id=charge["id"],
                currency=charge["currency"],
                captured=charge["amount"],
                customer=params["customer"],
            )
            job.commit("book", partial(record_charge, entry))
        return {
            "charge_id": charge["id"],
            "amount": charge["amount"],
            "amount_decimal": to_major_units(charge["amount"], charge["currency"]),
            "currency": charge["currency"],
            "status": charge["status"],
        }


def _authorize_and_capture(provider: PaymentProvider, order: dict[str, Any], job: JobHandle) -> dict[str, Any]:
    """Authorize the money, then capture it; release it if it cannot be captured."""
    authorized = job.effect(
        "authorize",
        lambda key: provider.charge(**order, capture=False, idempotency_key=key),
        timeout=call_timeout(),
        key_window=KEY_WINDOW,
        reconcile=partial(provider.find_charge, status="authorized"),
        compensate=Compensation(
            call=lambda charge, key: provider.cancel(charge["id"], idempotency_key=key),
            key_window=KEY_WINDOW,
            reconcile=lambda charge, _key: provider.find_charge_in_status(charge["id"], "canceled"),
        ),
    )
    return job.effect(
        "capture",
        lambda key: provider.capture(authorized["id"], idempotency_key=key),
        timeout=call_timeout(),
        key_window=KEY_WINDOW,
        reconcile=lambda _key: provider.find_charge_in_status(authorized["id"], "succeeded"),
    )
