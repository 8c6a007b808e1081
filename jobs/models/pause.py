"""What is held back by an operator."""

from __future__ import annotations

from uuid import UUID

from django.db import models
from django.db.models import Q
from django.db.models.functions import Coalesce, Now


class Pause(models.Model):
    """Such jobs are not claimed: of an operation, of a tenant, of both together; of everything where neither is named."""

    operation = models.CharField(max_length=100, null=True)  # noqa: DJ001 - NULL: of every operation
    tenant = models.ForeignKey("accounts.Tenant", null=True, on_delete=models.PROTECT, db_index=False)
    by = models.CharField(max_length=200)
    at = models.DateTimeField(db_default=Now())
    note = models.TextField()
    resumed_at = models.DateTimeField(
        null=True
    )  # from then on it holds nobody back; gone once nobody is parked
    walked_to = models.UUIDField(default=UUID(int=0))  # as far as parked jobs have been looked at since

    class Meta:
        db_table = "job_pause"
        constraints = [
            models.UniqueConstraint(
                Coalesce("operation", models.Value("")),
                Coalesce("tenant", models.Value(0)),
                condition=Q(resumed_at=None),
                name="job_pause_once",
            ),
        ]

    def __str__(self) -> str:
        return f"pause of {self.operation or 'every operation'}, tenant {self.tenant_id or 'any'}"
