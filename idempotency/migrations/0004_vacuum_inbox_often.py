"""Vacuum consumed messages after 1 % of the rows have changed, as records: the purge reads their index from its beginning."""

from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [("idempotency", "0003_create_inbox")]

    operations = [
        migrations.RunSQL(
            sql="ALTER TABLE inbox_message SET (autovacuum_vacuum_scale_factor = 0.01)",
            reverse_sql="ALTER TABLE inbox_message RESET (autovacuum_vacuum_scale_factor)",
        ),
    ]
