from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """An index of ended jobs by their end, for the purge. Built beside running writes; code that does not know it goes on."""

    atomic = False  # as CONCURRENTLY demands

    dependencies = [("jobs", "0004_drop_index_of_due_jobs")]

    operations = [
        AddIndexConcurrently(
            "job",
            models.Index(
                fields=["finished_at", "id"],
                name="job_ended",
                condition=models.Q(finished_at__isnull=False),
            ),
        ),
    ]
