import datetime

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """An index for whoever watches: since when jobs are due. Built beside running writes; code that does not know it goes on."""

    atomic = False  # as CONCURRENTLY demands

    dependencies = [("jobs", "0020_drop_index_by_operation")]

    operations = [
        AddIndexConcurrently(
            "job",
            models.Index(
                fields=["queue", "run_at"],
                name="job_due",
                condition=models.Q(
                    state="queued",
                    concurrency_key__isnull=True,
                    next_publish_at__lt=datetime.datetime(9999, 1, 1, tzinfo=datetime.timezone.utc),
                ),
            ),
        ),
    ]
