"""Idempotency keys in the admin: exact search by key, what a key stands for, and its release. Never a stored answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.urls import path

from idempotency.models import IdempotencyRecord
from operators.admin.pages import ROWS, LookOnly, may, page, requires
from operators.inspection import records_of

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse
    from django.urls import URLPattern


@requires("idempotency.view_idempotencyrecord")
def show_keys(request: HttpRequest) -> HttpResponse:
    """What is remembered under exactly that key, of each tenant and mode. Without one, a box: nobody browses keys."""
    key = request.GET.get("key", "").strip()
    return page(
        request,
        "idempotency_keys.html",
        title="Idempotency keys",
        key=key,
        found=records_of(key, limit=ROWS) if key else [],
        may_operate=may(request, "jobs.operate_job"),
    )


@admin.register(IdempotencyRecord)
class IdempotencyRecordAdmin(LookOnly):
    """Idempotency keys."""

    def get_urls(self) -> list[URLPattern]:
        """The one page."""
        show = self.admin_site.admin_view(show_keys)
        return [path("", show, name="idempotency_idempotencyrecord_changelist")]
