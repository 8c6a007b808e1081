"""Idempotency records in the admin: exact search by key. Stored responses are never shown."""

from django.http import HttpRequest, HttpResponse

from operators.admin.list_page import ROWS
from operators.admin.page_base import may, render_page
from operators.search import find_records


def show_keys(request: HttpRequest) -> HttpResponse:
    """Show what each tenant and mode has stored under exactly this key. Keys cannot be listed."""
    key = request.GET.get("key", "").strip()
    return render_page(
        request,
        "idempotency_keys.html",
        title="Idempotency records",
        key=key,
        found=find_records(key, limit=ROWS) if key else [],
        may_operate=may(request, "jobs.operate_job"),
    )
