"""Jobs in the admin: to look at. What changes a job is a transition, not a form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin

from jobs.models import Job

if TYPE_CHECKING:
    from django.http import HttpRequest


@admin.register(Job)
class JobAdmin(admin.ModelAdmin):  # type: ignore[type-arg] # not subscriptable at run time
    """Jobs by state and operation; exact search by id or key. Nothing can be edited or deleted here."""

    list_display = ("id", "operation", "state", "attempt", "attempts_left", "created_at", "finished_at")
    list_filter = ("state", "operation", "mode")
    search_fields = ("=id", "=idempotency_key")
    ordering = ("-id",)
    show_full_result_count = False
    exclude = ("params", "result", "error")

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002
        """Jobs are submitted through the API."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:  # noqa: ARG002
        """Only transitions write a job."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:  # noqa: ARG002
        """Only retention deletes a job."""
        return False
