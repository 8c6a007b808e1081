from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """An index of each operation's jobs by their states. Built beside running writes; code that does not know it goes on."""

    atomic = False  # as CONCURRENTLY demands

    dependencies = [("jobs", "0018_find_errors")]

    operations = [
        AddIndexConcurrently(
            "job",
            models.Index(
                fields=["tenant", "mode", "operation", "state", "-id"], name="job_list_by_operation_state"
            ),
        ),
    ]
