"""A violation that the self-audit has found."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class Violation(models.Model):
    """A rule that the self-audit found broken (selfaudit.py). One open row per rule and subject."""

    invariant = models.CharField(max_length=4)  # "I4", as docs/explanation/reliability.md numbers them
    rule = models.CharField(max_length=50)
    subject = models.CharField(max_length=100)  # "job/<id>", "record/<id>", "purge/<kind>"
    details = models.JSONField(default=dict)  # numbers and names, never a payload
    first_seen_at = models.DateTimeField(db_default=Now())
    last_seen_at = models.DateTimeField(db_default=Now())
    resolved_at = models.DateTimeField(null=True)  # set by a later audit that no longer finds it

    class Meta:
        db_table = "violation"
        indexes = [
            models.Index(fields=["last_seen_at", "id"], name="violation_open", condition=Q(resolved_at__isnull=True))
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "subject"], name="violation_once", condition=Q(resolved_at__isnull=True)
            )
        ]

    def __str__(self) -> str:
        return f"{self.invariant} {self.rule}: {self.subject}"
