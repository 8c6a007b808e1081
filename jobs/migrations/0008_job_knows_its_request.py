from django.db import migrations, models


class Migration(migrations.Migration):
    """Which request asked for a job, and in which trace. Columns without defaults: no rewrite; code that does not know them goes on."""

    dependencies = [("jobs", "0007_one_job_per_identity")]

    operations = [
        migrations.AddField("job", "request_id", models.CharField(max_length=128, null=True)),
        migrations.AddField("job", "traceparent", models.CharField(max_length=55, null=True)),
    ]
