"""Tenants in the admin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin

from accounts.models import Tenant

if TYPE_CHECKING:
    from django.http import HttpRequest


@admin.register(Tenant)
class TenantAdmin(admin.ModelAdmin):  # type: ignore[type-arg] # not subscriptable at run time
    """Tenants by name; deleting one would orphan its jobs."""

    list_display = ("name", "created_at")
    search_fields = ("name",)

    def has_delete_permission(self, request: HttpRequest, obj: Tenant | None = None) -> bool:  # noqa: ARG002
        """Nobody deletes a tenant here."""
        return False
