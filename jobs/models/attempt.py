"""One execution of a job."""

from django.db import models
from django.db.models import Q

from jobs.models.job import Job


class JobAttempt(models.Model):
    """One execution of a job. Its number is the fencing token that each of its writes must match."""

    class Outcome(models.TextChoices):
        """How an attempt ended: the event that ended it."""

        SUCCEEDED = "succeed"
        FAILED = "fail"
        RETRIED = "retry"
        POSTPONED = "postpone"
        EXPIRED = "expire"
        OUTCOME_UNKNOWN = "doubt"
        CANCELED = "canceled"

    pk = models.CompositePrimaryKey("job_id", "number")
    job = models.ForeignKey(
        Job, related_name="attempts", on_delete=models.DO_NOTHING, db_constraint=False, db_index=False
    )
    number = models.IntegerField()
    worker = models.CharField(max_length=255)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=9, choices=Outcome.choices, null=True)  # noqa: DJ001 - NULL: still running
    error = models.BinaryField(null=True)  # encoded (payloads.py)

    class Meta:
        db_table = "job_attempt"
        constraints = [
            models.CheckConstraint(
                condition=Q(ended_at=None, outcome=None) | Q(ended_at__isnull=False, outcome__isnull=False),
                name="job_attempt_ends_with_an_outcome",
            ),
            models.CheckConstraint(
                condition=Q(outcome=None)
                | Q(outcome__in=["succeed", "fail", "retry", "postpone", "expire", "doubt", "canceled"]),
                name="job_attempt_outcome_is_known",
            ),
        ]

    def __str__(self) -> str:
        return f"attempt {self.number} of {self.job_id}"
