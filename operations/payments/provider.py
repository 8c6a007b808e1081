"""What the operations on payments share: the provider as configured, and what a charge's result says."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings

from operations.payments.currencies import in_major_units
from operations.payments.gateway import PaymentProvider

if TYPE_CHECKING:
    from jobs.operations import JobHandle

# What the attempt needs around a call on a busy machine.
CALL_SLACK = timedelta(seconds=2)
# How long the provider remembers a key.
KEY_WINDOW = timedelta(hours=24)


def call_timeout() -> timedelta:
    """How long one call may take in all."""
    return _provider_timeout() + CALL_SLACK


def provider_for(job: JobHandle) -> PaymentProvider:
    """The provider, who is told which job and which attempt asks."""
    return PaymentProvider(
        settings.PAYMENT_PROVIDER_URL,
        settings.PAYMENT_PROVIDER_KEY,
        job_id=job.id,
        fence=job.fence,
        timeout=_provider_timeout(),
    )


def charge_result(charge: dict[str, Any]) -> dict[str, Any]:
    """What a job tells of its charge, and a refund reads."""
    return {
        "charge_id": charge["id"],
        "amount": charge["amount"],
        "amount_decimal": in_major_units(charge["amount"], charge["currency"]),
        "currency": charge["currency"],
        "status": charge["status"],
    }


def _provider_timeout() -> timedelta:
    return timedelta(seconds=settings.PAYMENT_PROVIDER_TIMEOUT_SECONDS)
