"""A bulk action of an operator."""

from uuid import UUID

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class BulkAction(models.Model):
    """An action on all jobs of a filter, with its progress and results (operators/bulk_actions.py)."""

    class Action(models.TextChoices):
        CANCEL = "cancel"
        REDRIVE = "redrive"
        RESOLVE = "resolve"
        RELEASE = "release"  # its idempotency key

    action = models.CharField(max_length=7, choices=Action.choices)
    selection = models.JSONField()  # the filter: jobs.selectors.JobFilter
    resolution = models.JSONField(default=dict)  # of a resolve: verdict and then
    note = models.TextField()
    by = models.CharField(max_length=200)
    created_at = models.DateTimeField(db_default=Now())
    until = models.UUIDField()  # the newest job at the start; later ones are not touched
    cursor = models.UUIDField(default=UUID(int=0))  # the last job that was processed or skipped
    changed = models.PositiveBigIntegerField(default=0)
    refused = models.JSONField(default=dict)  # counts by reason
    finished_at = models.DateTimeField(null=True)
    is_stopped = models.BooleanField(default=False)  # an operator stopped it before its end

    class Meta:
        db_table = "job_bulk_action"
        indexes = [models.Index(fields=["id"], name="job_bulk_action_open", condition=Q(finished_at=None))]

    def __str__(self) -> str:
        return f"{self.action} {self.id} by {self.by}"
