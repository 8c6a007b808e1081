from django.db import migrations, models


class Migration(migrations.Migration):
    """Since when a job's payload is gone, and which business intent it stands for. Columns without defaults: no rewrite."""

    dependencies = [("jobs", "0005_find_jobs_past_retention")]

    operations = [
        migrations.AddField("job", "erased_at", models.DateTimeField(null=True)),
        migrations.AddField("job", "identity", models.BinaryField(null=True)),
        migrations.AddConstraint(
            "job",
            models.CheckConstraint(
                condition=models.Q(erased_at__isnull=True) | models.Q(finished_at__isnull=False),
                name="job_erased_has_ended",
            ),
        ),
    ]
