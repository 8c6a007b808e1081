"""How often a key was replayed, and when last. Columns with defaults: added without rewriting the table."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("idempotency", "0004_vacuum_inbox_often")]

    operations = [
        migrations.AddField("idempotencyrecord", "replays", models.PositiveIntegerField(db_default=0, default=0)),
        migrations.AddField("idempotencyrecord", "last_replayed_at", models.DateTimeField(null=True)),
    ]
