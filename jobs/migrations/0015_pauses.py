import uuid

import django.db.models.functions.comparison
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    """What is paused, by whom and why. A new table; code that does not know it claims as before."""

    dependencies = [("accounts", "0002_audit_log"), ("jobs", "0014_find_jobs_in_trouble")]

    operations = [
        migrations.CreateModel(
            name="Pause",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("operation", models.CharField(max_length=100, null=True)),
                ("tenant", models.ForeignKey(null=True, on_delete=models.deletion.PROTECT, to="accounts.tenant", db_index=False)),
                ("by", models.CharField(max_length=200)),
                ("at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("note", models.TextField()),
                ("resumed_at", models.DateTimeField(null=True)),
                ("walked_to", models.UUIDField(default=uuid.UUID(int=0))),
            ],
            options={
                "db_table": "job_pause",
                "constraints": [
                    models.UniqueConstraint(
                        django.db.models.functions.comparison.Coalesce("operation", models.Value("")),
                        django.db.models.functions.comparison.Coalesce("tenant", models.Value(0)),
                        condition=models.Q(resumed_at=None),
                        name="job_pause_once",
                    ),
                ],
            },
        ),
    ]
