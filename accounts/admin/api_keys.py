"""API keys in the admin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin

from accounts.models import ApiKey

if TYPE_CHECKING:
    from django.http import HttpRequest


@admin.register(ApiKey)
class ApiKeyAdmin(admin.ModelAdmin):  # type: ignore[type-arg] # not subscriptable at run time
    """Keys without their secrets: created by `manage.py create_api_key`, ended here by a revocation or expiry."""

    list_display = ("__str__", "tenant", "mode", "is_admin", "created_at", "expires_at", "revoked_at")
    list_filter = ("mode", "is_admin")
    fields = ("tenant", "mode", "is_admin", "expires_at", "revoked_at")
    readonly_fields = ("tenant", "mode", "is_admin")

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002
        """A key made here could not show its secret."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:  # noqa: ARG002
        """A revoked key stays, so that its requests can be traced."""
        return False
