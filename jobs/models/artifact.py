"""The files that jobs produce: artifacts, and orphaned files in storage."""

from django.db import models
from django.db.models import Q

from jobs.models.job import Job


class JobArtifact(models.Model):
    """A file that a job produced. It is complete in storage before this row is written."""

    pk = models.CompositePrimaryKey("job_id", "name")
    job = models.ForeignKey(
        Job, related_name="artifacts", on_delete=models.DO_NOTHING, db_constraint=False, db_index=False
    )
    name = models.CharField(max_length=100)  # part of its URL
    content_type = models.CharField(max_length=200)
    filename = models.CharField(max_length=200)  # file name of a download
    size = models.PositiveBigIntegerField()  # bytes
    digest = models.BinaryField(max_length=32)  # SHA-256 of the bytes
    storage_name = models.CharField(max_length=100)  # never used twice
    attempt = models.PositiveIntegerField()  # the attempt that produced it
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True)  # NULL: kept as long as its job

    class Meta:
        db_table = "job_artifact"
        indexes = [
            models.Index(fields=["expires_at"], name="job_artifact_by_expiry", condition=Q(expires_at__isnull=False))
        ]

    def __str__(self) -> str:
        return f"artifact {self.name} of {self.job_id}"


class OrphanedFile(models.Model):
    """A file that may be in storage and is not, or no longer, an artifact. The purge removes it after `removable_at`.

    The row is written before the file, and deleted by the statement that publishes the artifact or after the file is removed.
    So a process that dies at any moment leaves no file without a row.
    """

    storage_name = models.CharField(primary_key=True, max_length=100)
    job_id = models.UUIDField()
    attempt = models.PositiveIntegerField()  # the only attempt that may still publish it; 0 means none
    removable_at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "orphaned_file"

    def __str__(self) -> str:
        return f"orphaned file {self.storage_name} of {self.job_id}"
