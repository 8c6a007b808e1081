"""payments.charge: money is taken from a customer, once; at once, or set aside first and then captured."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from django.core.validators import RegexValidator
from rest_framework import serializers

from jobs.fields import StrictCharField, StrictIntegerField
from jobs.operations import Compensation, Operation
from operations.payments.currencies import MINOR_DIGITS
from operations.payments.ledger import Charged, book_charge
from operations.payments.provider import KEY_WINDOW, call_timeout, charge_result, provider_for

if TYPE_CHECKING:
    from jobs.operations import JobHandle
    from operations.payments.gateway import PaymentProvider


class ChargeParams(serializers.Serializer[dict[str, Any]]):
    """How much, and from where."""

    amount = StrictIntegerField(
        min_value=1,
        max_value=2**53 - 1,
        help_text="In minor units: 1999 is 19.99 USD, 1999 JPY and 1.999 KWD.",
    )
    currency = StrictCharField(
        validators=[
            RegexValidator(
                rf"\A(?:{'|'.join(MINOR_DIGITS)})\Z",
                "The three lower-case letters of a currency (ISO 4217), such as usd.",
            )
        ],
        help_text="Three lower-case letters (ISO 4217), such as usd.",
    )
    source = StrictCharField(  # type: ignore[assignment] # the metaclass takes it away before Field.source is looked for
        max_length=255, help_text="The provider's token of the card or account."
    )
    description = StrictCharField(max_length=500, required=False, allow_blank=True)
    capture = serializers.ChoiceField(
        choices=["automatic", "separate"],
        required=False,
        help_text="separate: the money is set aside first and captured then, in two calls.",
    )
    customer = StrictCharField(
        max_length=255, required=False, help_text="Whose balance the charge is booked to."
    )


class ChargeResult(serializers.Serializer[dict[str, Any]]):
    """The charge, as the provider knows it."""

    charge_id = serializers.CharField()
    amount = serializers.IntegerField()
    amount_decimal = serializers.CharField(
        allow_null=True, help_text="As people write it: 19.99, or 1999 in JPY."
    )
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
        provider = provider_for(job)
        order: dict[str, Any] = {
            name: params[name] for name in ("amount", "currency", "source", "description") if name in params
        }
        if params.get("capture") == "separate":
            charge = _charge_in_two(provider, order, job)
        else:
            charge = job.effect(
                "charge",
                lambda key: provider.charge(**order, idempotency_key=key),
                timeout=call_timeout(),
                key_window=KEY_WINDOW,
                reconcile=provider.find_charge,
            )
        if "customer" in params:
            charged = Charged(
                job_id=job.id,
                scope=job.scope,
                charge_id=charge["id"],
                currency=charge["currency"],
                amount=charge["amount"],
                customer=params["customer"],
            )
            job.commit("book", partial(book_charge, charged))
        return charge_result(charge)


def _charge_in_two(provider: PaymentProvider, order: dict[str, Any], job: JobHandle) -> dict[str, Any]:
    """The money is set aside, then captured; let go again where it cannot be captured."""
    authorized = job.effect(
        "authorize",
        lambda key: provider.authorize(**order, idempotency_key=key),
        timeout=call_timeout(),
        key_window=KEY_WINDOW,
        reconcile=partial(provider.find_charge, status="authorized"),
        compensate=Compensation(
            call=lambda charge, key: provider.cancel(charge["id"], idempotency_key=key),
            key_window=KEY_WINDOW,
            reconcile=lambda charge, _key: provider.charge_if(charge["id"], status="canceled"),
        ),
    )
    return job.effect(
        "capture",
        lambda key: provider.capture(authorized["id"], idempotency_key=key),
        timeout=call_timeout(),
        key_window=KEY_WINDOW,
        reconcile=lambda _key: provider.charge_if(authorized["id"], status="succeeded"),
    )
