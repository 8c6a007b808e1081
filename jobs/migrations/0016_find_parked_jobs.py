import datetime

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """An index of the jobs that a pause keeps from being published. Built beside running writes; empty while nothing is paused."""

    atomic = False  # as CONCURRENTLY demands

    dependencies = [("jobs", "0015_pauses")]

    operations = [
        AddIndexConcurrently(
            "job",
            models.Index(
                fields=["id"],
                name="job_parked",
                condition=models.Q(next_publish_at=datetime.datetime(9999, 1, 1, tzinfo=datetime.timezone.utc)),
            ),
        ),
    ]
