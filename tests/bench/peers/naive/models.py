"""Two tables: the job, and the key under which it was requested."""

import uuid

from django.db import models


class Job(models.Model):
    """Work that a client has requested."""

    class Status(models.TextChoices):
        """How far the work is."""

        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    operation = models.CharField(max_length=100)
    params = models.JSONField()
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    created_at = models.DateTimeField(auto_now_add=True)


class IdempotencyKey(models.Model):
    """A key of a client, with the response to repeat."""

    client = models.IntegerField()
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    response = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["client", "key"], name="one_request_per_key")]
