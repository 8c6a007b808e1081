"""The scope of a tenant in one mode, as `idempotency` stores it. The form never changes: live keys are stored under it."""

from django.db.models import CharField, Value
from django.db.models.functions import Cast, Concat


def format_scope(*, tenant_id: int, mode: str) -> str:
    """Return the scope's text."""
    return f"{tenant_id}:{mode}"


def parse_scope(scope: str) -> tuple[int, str]:
    """Return the tenant's id and the mode."""
    tenant_id, _, mode = scope.partition(":")
    return int(tenant_id), mode


def scope_column(mode: str) -> Concat:
    """Return the scope of each row of `tenant` as an SQL expression."""
    return Concat(Cast("id", CharField()), Value(f":{mode}"))
