"""The files that jobs make: those that are theirs, and those that are nobody's."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from jobs.models.job import Job


class JobArtifact(models.Model):
    """A file that a job made, whole in storage since before this row was written."""

    pk = models.CompositePrimaryKey("job_id", "name")
    job = models.ForeignKey(
        Job, related_name="artifacts", on_delete=models.DO_NOTHING, db_constraint=False, db_index=False
    )
    name = models.CharField(max_length=100)  # as its address has it
    content_type = models.CharField(max_length=200)
    filename = models.CharField(max_length=200)  # what a download is called
    size = models.PositiveBigIntegerField()  # bytes
    digest = models.BinaryField(max_length=32)  # SHA-256 of the bytes
    storage_name = models.CharField(max_length=100)  # never used twice
    attempt = models.PositiveIntegerField()  # which made it
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True)  # NULL: kept as long as its job

    class Meta:
        db_table = "job_artifact"
        indexes = [
            models.Index(
                fields=["expires_at"],
                name="job_artifact_by_expiry",
                condition=Q(expires_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"artifact {self.name} of {self.job_id}"


class StrayFile(models.Model):
    """A file that may lie in storage and is no artifact: not yet, or no longer. The purge removes it when its time has come.

    Written before the file, and deleted by the statement that makes an artifact of it, or after the file is removed: so
    there is no instant at which a process can die and leave a file that nobody knows of.
    """

    storage_name = models.CharField(primary_key=True, max_length=100)
    job_id = models.UUIDField()
    attempt = (
        models.PositiveIntegerField()
    )  # which may make an artifact of it while it holds the job; 0: none
    removable_at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "stray_file"

    def __str__(self) -> str:
        return f"stray file {self.storage_name} of {self.job_id}"
