"""Tenants and their API keys."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class Mode(models.TextChoices):
    """Live and test are two worlds: no key, job or idempotency key of one is visible in the other."""

    TEST = "test"
    LIVE = "live"


class Tenant(models.Model):
    """A customer of this installation; everything else belongs to exactly one."""

    name = models.CharField(max_length=100, unique=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "tenant"

    def __str__(self) -> str:
        return self.name


class ApiKey(models.Model):
    """A credential: `<mode>_<id>_<secret>`. The secret is shown once; its SHA-256 is all that is kept."""

    id = models.CharField(max_length=16, primary_key=True)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="api_keys")
    mode = models.CharField(max_length=4, choices=Mode.choices)
    secret_sha256 = models.BinaryField(max_length=32)
    # May also resolve unknown outcomes and other things that only an operator should decide.
    is_admin = models.BooleanField(db_default=False, default=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "api_key"
        verbose_name = "API key"
        constraints = [
            models.CheckConstraint(condition=models.Q(mode__in=Mode.values), name="api_key_mode_is_known"),
        ]

    def __str__(self) -> str:
        return f"{self.mode}_{self.id}_…"
