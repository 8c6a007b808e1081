"""What changes tenants and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models.functions import Now

from accounts.credentials import Credential, digest, new_credential
from accounts.models import ApiKey, Tenant

if TYPE_CHECKING:
    from datetime import datetime


def create_tenant(*, name: str) -> Tenant:
    """A new tenant with that name. Raises IntegrityError where the name is taken."""
    # A savepoint where a transaction is open: a name that is taken must not spoil what was done before.
    with transaction.atomic():
        return Tenant.objects.create(name=name)


def create_api_key(
    *, tenant: Tenant, mode: str, is_admin: bool = False, expires_at: datetime | None = None
) -> Credential:
    """A new key of the tenant. The secret is in the returned credential and nowhere else."""
    credential = new_credential(mode)
    ApiKey.objects.create(
        id=credential.id,
        tenant=tenant,
        mode=mode,
        secret_sha256=digest(credential.secret),
        is_admin=is_admin,
        expires_at=expires_at,
    )
    return credential


def revoke_api_key(*, key_id: str) -> bool:
    """The key is refused from the next request on. False where there is no such live key."""
    return ApiKey.objects.filter(pk=key_id, revoked_at=None).update(revoked_at=Now()) == 1
