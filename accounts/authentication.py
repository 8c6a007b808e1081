"""Authenticate a request: `Authorization: Bearer <api key>`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts.credential_cache import credential_cache
from accounts.credentials import matches, parse_credential
from accounts.scopes import format_scope

if TYPE_CHECKING:
    from rest_framework.views import APIView

    from accounts.credentials import Credential
    from accounts.queries import LiveKey


@dataclass(frozen=True, kw_only=True)
class Principal:
    """An authenticated caller: a tenant in one mode."""

    tenant_id: int
    mode: str
    api_key_id: str
    is_admin: bool
    is_authenticated: bool = True

    @property
    def scope(self) -> str:
        """The scope of the caller's idempotency keys: the same for all API keys of the tenant in this mode."""
        return format_scope(tenant_id=self.tenant_id, mode=self.mode)


class ApiKeyAuthentication(BaseAuthentication):
    """Authenticate by API key. Unknown, revoked and expired keys get the same answer."""

    def authenticate(self, request: Request) -> tuple[Principal, str] | None:
        """Return the caller and its key's id; None without an Authorization header. Raises AuthenticationFailed."""
        header: str = request.META.get("HTTP_AUTHORIZATION", "")
        if not header:
            return None
        scheme, _, token = header.partition(" ")
        credential = parse_credential(token.strip())
        if scheme.lower() != "bearer" or credential is None:
            raise AuthenticationFailed
        key = _key_of(credential)
        if key is None:
            raise AuthenticationFailed
        principal = Principal(tenant_id=key.tenant_id, mode=key.mode, api_key_id=credential.id, is_admin=key.is_admin)
        return principal, credential.id

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002 - DRF's signature
        """Return the WWW-Authenticate header of a 401 (RFC 6750 §3)."""
        return 'Bearer realm="semel"'


def _key_of(credential: Credential) -> LiveKey | None:
    """Return the live key that the credential names, None if there is none or the secret is not its own.

    Sends no statement for a key that was read within CREDENTIAL_CACHE_SECONDS. A wrong secret takes as long as an unknown id:
    both are read.
    """
    cached = credential_cache.get(key_id=credential.id, mode=credential.mode)
    if cached is not None and matches(credential, cached.secret_sha256):
        return cached
    key = credential_cache.read(key_id=credential.id, mode=credential.mode)
    return key if matches(credential, key.secret_sha256 if key else None) else None


class IsTenant(BasePermission):
    """Allow authenticated tenants."""

    def has_permission(self, request: Request, view: APIView) -> bool:  # noqa: ARG002 - DRF's signature
        return isinstance(request.user, Principal)


class IsAdmin(BasePermission):
    """Allow API keys that were created with `--admin`."""

    message = "This needs an API key with the scope admin."

    def has_permission(self, request: Request, view: APIView) -> bool:  # noqa: ARG002 - DRF's signature
        return isinstance(request.user, Principal) and request.user.is_admin


def principal_of(request: Request) -> Principal:
    """Return the caller of a request that passed IsTenant."""
    if not isinstance(request.user, Principal):
        raise TypeError("principal_of() is for views behind IsTenant.")
    return request.user


def scope_of(request: Request) -> str:
    """Return the scope of the request's idempotency key (settings.IDEMPOTENCY_SCOPE)."""
    return principal_of(request).scope
