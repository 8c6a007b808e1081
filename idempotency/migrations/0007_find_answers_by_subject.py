from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """An erasure finds the answers that quote its subject. Built beside running writes; it holds no request that makes things."""

    atomic = False  # as CONCURRENTLY demands

    dependencies = [("idempotency", "0006_know_what_a_request_was_about")]

    operations = [
        AddIndexConcurrently(
            "idempotencyrecord",
            models.Index(
                fields=["subject"],
                name="idempotency_record_subject",
                condition=models.Q(subject__isnull=False),
            ),
        ),
    ]
