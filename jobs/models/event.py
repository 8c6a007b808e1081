"""A job's history."""

from django.db import models

from jobs.models.job import Job


class JobEvent(models.Model):
    """An entry in a job's history: append-only, numbered without gaps in the order of commits."""

    pk = models.CompositePrimaryKey("job_id", "seq")
    job = models.ForeignKey(
        Job, related_name="events", on_delete=models.DO_NOTHING, db_constraint=False, db_index=False
    )
    seq = models.IntegerField()
    type = models.CharField(max_length=30)
    attempt = models.IntegerField()
    data = models.JSONField(db_default=models.Value({}, models.JSONField()), default=dict)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "job_event"

    def __str__(self) -> str:
        return f"{self.seq} {self.type} of {self.job_id}"
