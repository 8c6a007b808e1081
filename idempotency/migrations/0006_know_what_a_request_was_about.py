"""What a request was about, where that was there before it. A column without a default: no rewrite."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("idempotency", "0005_count_replays")]

    operations = [migrations.AddField("idempotencyrecord", "subject", models.TextField(null=True))]
