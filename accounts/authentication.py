"""Who asks: `Authorization: Bearer <api key>`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission

from accounts.credentials import matches, parse_credential
from accounts.queries import find_live_key

if TYPE_CHECKING:
    from rest_framework.request import Request
    from rest_framework.views import APIView


def scope_name(*, tenant_id: int, mode: str) -> str:
    """What `idempotency` calls a tenant in one mode. Never changed: live keys are stored under it."""
    return f"{tenant_id}:{mode}"


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
        """Whose idempotency keys these are: the tenant's in this mode, whichever credential was used."""
        return scope_name(tenant_id=self.tenant_id, mode=self.mode)


class ApiKeyAuthentication(BaseAuthentication):
    """One indexed read; a revoked, expired or unknown key is refused, always in the same words."""

    def authenticate(self, request: Request) -> tuple[Principal, str] | None:
        """The caller and the id of its key; None where no Authorization header was sent."""
        header = get_authorization_header(request)
        if not header:
            return None
        scheme, _, token = header.partition(b" ")
        credential = parse_credential(token.strip().decode("latin-1"))
        if scheme.lower() != b"bearer" or credential is None:
            raise AuthenticationFailed
        key = find_live_key(key_id=credential.id, mode=credential.mode)
        if not matches(credential, key.secret_sha256 if key else None) or key is None:
            raise AuthenticationFailed
        principal = Principal(
            tenant_id=key.tenant_id, mode=key.mode, api_key_id=credential.id, is_admin=key.is_admin
        )
        return principal, credential.id

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002 - DRF's signature
        """What a 401 carries (RFC 6750 §3)."""
        return 'Bearer realm="semel"'


class IsTenant(BasePermission):
    """Only an authenticated tenant comes in."""

    def has_permission(self, request: Request, view: APIView) -> bool:  # noqa: ARG002 - DRF's signature
        """Whether an API key was presented and held good."""
        return isinstance(request.user, Principal)


class IsAdmin(BasePermission):
    """Only an API key made with `--admin` comes in."""

    message = "This needs an API key with the scope admin."

    def has_permission(self, request: Request, view: APIView) -> bool:  # noqa: ARG002 - DRF's signature
        """Whether the key may do what only an operator should decide."""
        return isinstance(request.user, Principal) and request.user.is_admin


def principal_of(request: Request) -> Principal:
    """The caller of a request that IsTenant has let in."""
    if not isinstance(request.user, Principal):
        raise TypeError("principal_of() is for views behind IsTenant.")
    return request.user


def scope_of(request: Request) -> str:
    """The scope of the request's idempotency key (settings.IDEMPOTENCY_SCOPE)."""
    return principal_of(request).scope
