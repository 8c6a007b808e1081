from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """An index of effects by what the downstream calls them. Built beside running writes; code that does not know it goes on."""

    atomic = False  # as CONCURRENTLY demands

    dependencies = [("jobs", "0012_step_knows_its_reference")]

    operations = [
        AddIndexConcurrently(
            "jobstep",
            models.Index(
                fields=["reference"],
                name="job_step_by_reference",
                condition=models.Q(reference__isnull=False),
            ),
        ),
    ]
