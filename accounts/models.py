"""Tenants, their API keys, and the audit log."""

from django.db import models
from django.db.models.functions import Now


class Mode(models.TextChoices):
    """Test and live data are separate: no API key, job or idempotency key of one mode is visible in the other."""

    TEST = "test"
    LIVE = "live"


class Tenant(models.Model):
    """A customer of this installation. Each API key and each job belongs to exactly one tenant."""

    name = models.CharField(max_length=100, unique=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "tenant"

    def __str__(self) -> str:
        return self.name


class ApiKey(models.Model):
    """A credential, `<mode>_<id>_<secret>`. The secret is shown once; only its SHA-256 is stored."""

    id = models.CharField(max_length=16, primary_key=True)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="api_keys")
    mode = models.CharField(max_length=4, choices=Mode.choices)
    secret_sha256 = models.BinaryField(max_length=32)
    is_admin = models.BooleanField(db_default=False, default=False)  # may also resolve unknown outcomes
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "api_key"
        verbose_name = "API key"
        constraints = [models.CheckConstraint(condition=models.Q(mode__in=Mode.values), name="api_key_mode_is_known")]

    def __str__(self) -> str:
        return f"{self.mode}_{self.id}_…"


class AuditEntry(models.Model):
    """What an operator did. Append-only: the trigger `audit_entry_append_only` refuses any change."""

    NAME_MAX, SUBJECT_MAX = 200, 600  # characters; a subject may name a scope and a key of 255 each

    at = models.DateTimeField(db_default=Now(), editable=False)
    actor = models.CharField(max_length=NAME_MAX)  # a name, not a reference: it outlives the account
    action = models.CharField(max_length=50)
    subject = models.CharField(max_length=SUBJECT_MAX)
    note = models.TextField(blank=True)
    details = models.JSONField(default=dict)

    class Meta:
        db_table = "audit_entry"
        verbose_name_plural = "audit entries"
        indexes = [models.Index(fields=["subject", "-id"], name="audit_entry_by_subject")]

    def __str__(self) -> str:
        return f"{self.actor}: {self.action} {self.subject}"
