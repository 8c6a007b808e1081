from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """Indexes of the jobs that failed lately, and half done. Built beside running writes; the happy path pays nothing."""

    atomic = False  # as CONCURRENTLY demands

    dependencies = [("jobs", "0017_name_errors")]

    operations = [
        AddIndexConcurrently(
            "job", models.Index(fields=["finished_at"], name="job_failed", condition=models.Q(state="failed"))
        ),
        AddIndexConcurrently(
            "job",
            models.Index(fields=["id"], name="job_partially_done", condition=models.Q(error_code="partially-done")),
        ),
    ]
