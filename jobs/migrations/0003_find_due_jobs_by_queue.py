from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """An index in which the due jobs of one queue stand together. Built beside running writes; code that does not know it goes on."""

    atomic = False  # as CONCURRENTLY demands

    dependencies = [("jobs", "0002_hot_updates_and_accept_seq")]

    operations = [
        AddIndexConcurrently(
            "job",
            models.Index(
                fields=["queue", "next_publish_at"],
                name="job_queued_by_queue",
                condition=models.Q(state="queued"),
            ),
        ),
    ]
