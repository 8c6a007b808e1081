from django.db import migrations, models


class Migration(migrations.Migration):
    """An error's code and cause as columns. Without defaults: no rewrite; code that does not know them writes NULL."""

    dependencies = [("jobs", "0016_find_parked_jobs")]

    operations = [
        migrations.AddField("job", "error_code", models.CharField(max_length=30, null=True)),
        migrations.AddField("job", "error_cause", models.CharField(max_length=100, null=True)),
    ]
