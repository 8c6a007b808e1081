"""A pause by an operator."""

from uuid import UUID

from django.db import models
from django.db.models import Q
from django.db.models.functions import Coalesce, Now


class Pause(models.Model):
    """Jobs of an operation, of a tenant or of both that are not claimed; all jobs if neither is set."""

    operation = models.CharField(max_length=100, null=True)  # noqa: DJ001 - NULL: every operation
    tenant = models.ForeignKey("accounts.Tenant", null=True, on_delete=models.PROTECT, db_index=False)
    by = models.CharField(max_length=200)
    at = models.DateTimeField(db_default=Now())
    note = models.TextField()
    resumed_at = models.DateTimeField(null=True)  # ends the pause; the row stays until each held job was looked at
    released_to = models.UUIDField(default=UUID(int=0))  # the last held job that was looked at since then

    class Meta:
        db_table = "job_pause"
        constraints = [
            models.UniqueConstraint(
                Coalesce("operation", models.Value("")),
                Coalesce("tenant", models.Value(0)),
                condition=Q(resumed_at=None),
                name="job_pause_once",
            )
        ]

    def __str__(self) -> str:
        return f"pause of {self.operation or 'every operation'}, tenant {self.tenant_id or 'any'}"
