from django.db import migrations, models

_CREATE = """
    CREATE UNIQUE INDEX CONCURRENTLY job_one_per_identity ON job (tenant_id, mode, operation, identity)
    WHERE identity IS NOT NULL AND NOT (state IN ('canceled', 'failed'))"""


class Migration(migrations.Migration):
    """One live job for each business intent. Built beside running writes; code that does not know it goes on."""

    atomic = False  # as CONCURRENTLY demands

    dependencies = [("jobs", "0006_erase_and_identify")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(_CREATE, "DROP INDEX CONCURRENTLY IF EXISTS job_one_per_identity")
            ],
            state_operations=[
                migrations.AddConstraint(
                    "job",
                    models.UniqueConstraint(
                        fields=["tenant", "mode", "operation", "identity"],
                        name="job_one_per_identity",
                        condition=models.Q(identity__isnull=False)
                        & ~models.Q(state__in=["canceled", "failed"]),
                    ),
                ),
            ],
        ),
    ]
