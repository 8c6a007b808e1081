from django.db import migrations, models


class Migration(migrations.Migration):
    """What the downstream calls an effect. A column without a default: no rewrite; code that does not know it goes on."""

    dependencies = [("jobs", "0011_compensate_effects")]

    operations = [
        migrations.AddField("jobstep", "reference", models.CharField(max_length=255, null=True)),
    ]
