"""The audit log in the admin: read, by whom and about what; nobody writes in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.urls import NoReverseMatch, path, reverse

from accounts.models import AuditEntry
from jobs.keyset import page_by_id
from operators.admin import page_links
from operators.admin.pages import ROWS, LookOnly, page, requires

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse
    from django.urls import URLPattern


class AuditFilterForm(forms.Form):
    """Each exactly; empty: any."""

    subject = forms.CharField(max_length=AuditEntry.SUBJECT_MAX, required=False)
    actor = forms.CharField(max_length=AuditEntry.NAME_MAX, required=False)
    action = forms.CharField(max_length=50, required=False)


@dataclass(frozen=True)
class _Line:
    entry: AuditEntry
    link: str
    details: str


@requires("accounts.view_auditentry")
def show_audit(request: HttpRequest) -> HttpResponse:
    """A page of entries, newest first. By subject they are served by audit_entry_by_subject, else by the primary key."""
    form = AuditFilterForm(request.GET, label_suffix="")
    entries = AuditEntry.objects.none()
    if form.is_valid():
        wanted = {name: value for name, value in form.cleaned_data.items() if value}
        entries = AuditEntry.objects.filter(**wanted)
    listed = page_by_id(entries, limit=ROWS, **page_links.place(request.GET))
    return page(
        request,
        "audit.html",
        title="Audit log",
        form=form,
        lines=[_Line(entry, _link(entry.subject), _said(entry)) for entry in listed.rows],
        **page_links.around(listed, request.GET),
    )


def _link(subject: str) -> str:
    """Where the subject is found; a job by its page, anything else by what else was done to it."""
    kind, _, name = subject.partition("/")
    try:
        if kind == "job":
            return reverse("admin:jobs_job_change", args=[name])
    except NoReverseMatch:
        pass
    return "?" + urlencode({"subject": subject})


def _said(entry: AuditEntry) -> str:
    return ", ".join(f"{name}: {value}" for name, value in entry.details.items() if value is not None)


@admin.register(AuditEntry)
class AuditEntryAdmin(LookOnly):
    """The audit log."""

    def get_urls(self) -> list[URLPattern]:
        """The one page."""
        return [path("", self.admin_site.admin_view(show_audit), name="accounts_auditentry_changelist")]
