"""What the self-audit found, for people on call."""

from __future__ import annotations

from django.contrib import admin

from jobs.models import Violation
from operators.admin.pages import LookOnly


@admin.register(Violation)
class ViolationAdmin(LookOnly):
    """Broken rules, those seen last first. A later audit resolves them; nobody edits them."""

    list_display = ("invariant", "rule", "subject", "first_seen_at", "last_seen_at", "resolved_at")
    list_filter = ("invariant", "rule", ("resolved_at", admin.EmptyFieldListFilter))
    search_fields = ("=subject",)
    ordering = ("-last_seen_at", "-id")
    show_full_result_count = False
