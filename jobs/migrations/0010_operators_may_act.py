from django.db import migrations


class Migration(migrations.Migration):
    """The permission that operators' actions ask for. No table changes."""

    dependencies = [("jobs", "0009_find_jobs_by_request")]

    operations = [
        migrations.AlterModelOptions(
            name="job",
            options={"permissions": [("operate_job", "Can cancel, redrive, resolve, release, pause and resume")]},
        ),
    ]
