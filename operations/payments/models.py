"""The payments ledger: charges, refunds and customers' balances.

Rows belong to a scope, as idempotency keys do. No foreign key refers to a job: jobs are purged earlier.
"""

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now


class Account(models.Model):
    """A customer's payments in one currency, less refunds. Changed by compare-and-swap on its version."""

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
    """A charge that names a customer or has a refund. Changed by compare-and-swap on its version."""

    job_id = models.UUIDField(primary_key=True)  # the job that charged
    scope = models.CharField(max_length=64)
    charge_id = models.CharField(max_length=255)  # the provider's id
    customer = models.CharField(max_length=255, null=True)  # noqa: DJ001 - NULL: no customer was named
    currency = models.CharField(max_length=3)
    captured = models.BigIntegerField()  # minor units
    refunded = models.BigIntegerField(db_default=0, default=0)  # refunded or held for a refund, in minor units
    version = models.BigIntegerField(db_default=0, default=0)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "payment_charge"
        constraints = [
            models.CheckConstraint(
                condition=Q(refunded__gte=0, refunded__lte=F("captured")), name="payment_charge_refunds_fit"
            )
        ]

    def __str__(self) -> str:
        return f"{self.charge_id} of {self.job_id}"


class Refund(models.Model):
    """An amount of a charge that a job refunds; held from before the refund until it is refused."""

    job_id = models.UUIDField(primary_key=True)  # the job that refunds
    charge = models.ForeignKey(Charge, on_delete=models.PROTECT, related_name="refunds")
    amount = models.BigIntegerField()
    is_held = models.BooleanField(default=True)  # counts in the charge's `refunded`

    class Meta:
        db_table = "payment_refund"
        constraints = [models.CheckConstraint(condition=Q(amount__gt=0), name="payment_refund_is_something")]

    def __str__(self) -> str:
        return f"{self.amount} of {self.charge_id} by {self.job_id}"
