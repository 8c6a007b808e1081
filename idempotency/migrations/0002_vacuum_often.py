"""Vacuum after 1 % of the rows have changed, instead of 20 %.

Records are deleted at the rate they arrive, and the purge reads the expiry index from its beginning, where all the dead
entries are. Every update of a record is HOT at the default fillfactor (8,000 of 8,000 measured), so that stays.
"""

from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [("idempotency", "0001_create_record")]

    operations = [
        migrations.RunSQL(
            sql="""
                ALTER TABLE idempotency_record SET (
                    autovacuum_vacuum_scale_factor = 0.01, toast.autovacuum_vacuum_scale_factor = 0.01
                )
            """,
            reverse_sql="""
                ALTER TABLE idempotency_record RESET (
                    autovacuum_vacuum_scale_factor, toast.autovacuum_vacuum_scale_factor
                )
            """,
        ),
    ]
