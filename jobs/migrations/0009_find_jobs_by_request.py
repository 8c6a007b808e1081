from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """An index of jobs by the request that asked. Built beside running writes; code that does not know it goes on."""

    atomic = False  # as CONCURRENTLY demands

    dependencies = [("jobs", "0008_job_knows_its_request")]

    operations = [
        AddIndexConcurrently(
            "job",
            models.Index(
                fields=["request_id"],
                name="job_by_request_id",
                condition=models.Q(request_id__isnull=False),
            ),
        ),
    ]
