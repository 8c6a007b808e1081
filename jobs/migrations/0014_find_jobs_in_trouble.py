from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """An index of the jobs that operators look for. Built beside running writes; code that does not know it goes on."""

    atomic = False  # as CONCURRENTLY demands

    dependencies = [("jobs", "0013_find_jobs_by_reference")]

    operations = [
        AddIndexConcurrently(
            "job",
            models.Index(
                fields=["state", "id"],
                name="job_in_trouble",
                condition=models.Q(state__in=["failed", "canceled", "unknown"]),
            ),
        ),
    ]
