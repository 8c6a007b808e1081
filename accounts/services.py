"""Create tenants and API keys; revoke keys. Each change is audited in its transaction."""

from datetime import datetime

from django.db import transaction
from django.db.models.functions import Now

from accounts import audit
from accounts.credentials import Credential, digest, new_credential
from accounts.models import ApiKey, Tenant


def create_tenant(*, name: str, actor: str = "command") -> Tenant:
    """Create a tenant. Raises IntegrityError if the name is taken; the caller's transaction can still be used."""
    with transaction.atomic():
        tenant = Tenant.objects.create(name=name)
        audit.record(actor=actor, action="tenant.create", subject=f"tenant/{name}")
    return tenant


def create_api_key(
    *,
    tenant: Tenant,
    mode: str,
    is_admin: bool = False,
    expires_at: datetime | None = None,
    actor: str = "command",
    key_id: str | None = None,
) -> Credential:
    """Create an API key. Only the returned credential holds the secret.

    key_id: 16 hex digits chosen by the caller, so that a repeated call raises IntegrityError instead of creating a second key.
    """
    credential = new_credential(mode, key_id)
    details = {"tenant": tenant.name, "mode": mode, "is_admin": is_admin}
    with transaction.atomic():
        ApiKey.objects.create(
            id=credential.id,
            tenant=tenant,
            mode=mode,
            secret_sha256=digest(credential.secret),
            is_admin=is_admin,
            expires_at=expires_at,
        )
        audit.record(actor=actor, action="key.create", subject=f"api-key/{credential.id}", details=details)
    return credential


def revoke_api_key(*, key_id: str, actor: str = "command", note: str = "") -> bool:
    """Revoke the key; within CREDENTIAL_CACHE_SECONDS every process refuses it. Return False where no such live key exists."""
    with transaction.atomic():
        revoked = ApiKey.objects.filter(pk=key_id, revoked_at=None).update(revoked_at=Now()) == 1
        if revoked:
            audit.record(actor=actor, action="key.revoke", subject=f"api-key/{key_id}", note=note)
    return revoked
