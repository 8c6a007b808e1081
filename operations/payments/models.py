"""What operations keep in our own database: how much of a charge was given back, and what customers have paid.

Whose they are is told by a scope, as of idempotency keys. Nothing here refers to a job by a constraint: jobs are purged first.
"""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now


class Account(models.Model):
    """What a customer has paid in one currency and was not given back. Changed by compare-and-swap on its version."""

    scope = models.CharField(max_length=64)
    customer = models.CharField(max_length=255)
    currency = models.CharField(max_length=3)
    balance = models.BigIntegerField(db_default=0, default=0)  # minor units
    version = models.BigIntegerField(db_default=0, default=0)

    class Meta:
        db_table = "payment_account"
        constraints = [
            models.UniqueConstraint(fields=["scope", "customer", "currency"], name="payment_account_is_one"),
            models.CheckConstraint(condition=Q(balance__gte=0), name="payment_account_is_never_below_zero"),
        ]

    def __str__(self) -> str:
        return f"{self.customer} {self.currency} ({self.scope})"


class Charge(models.Model):
    """A charge of which something was booked or is to be given back. Changed by compare-and-swap on its version."""

    job_id = models.UUIDField(primary_key=True)  # the job that charged
    scope = models.CharField(max_length=64)
    charge_id = models.CharField(max_length=255)  # the provider's name of it
    customer = models.CharField(max_length=255, null=True)  # noqa: DJ001 - NULL: booked to nobody
    currency = models.CharField(max_length=3)
    captured = models.BigIntegerField()  # minor units
    refunded = models.BigIntegerField(db_default=0, default=0)  # given back, or about to be
    version = models.BigIntegerField(db_default=0, default=0)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "payment_charge"
        constraints = [
            models.CheckConstraint(
                condition=Q(refunded__gte=0, refunded__lte=F("captured")), name="payment_charge_refunds_fit"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.charge_id} of {self.job_id}"


class Refund(models.Model):
    """A part of a charge that a job may give back, or was refused."""

    job_id = models.UUIDField(primary_key=True)  # the job that refunds
    charge = models.ForeignKey(Charge, on_delete=models.PROTECT, related_name="refunds")
    amount = models.BigIntegerField()
    is_held = models.BooleanField(default=True)  # counts among what was given back

    class Meta:
        db_table = "payment_refund"
        constraints = [
            models.CheckConstraint(condition=Q(amount__gt=0), name="payment_refund_is_something"),
        ]

    def __str__(self) -> str:
        return f"{self.amount} of {self.charge_id} by {self.job_id}"
