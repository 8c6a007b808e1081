"""The audit log in the admin, read-only, filtered by subject, actor or action."""

from django import forms
from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse

from accounts.models import AuditEntry
from operators.admin.list_page import link, list_page
from operators.admin.page_base import render_page


class AuditFilterForm(forms.Form):
    """Exact values; an empty field matches any entry."""

    subject = forms.CharField(max_length=AuditEntry.SUBJECT_MAX, required=False)
    actor = forms.CharField(max_length=AuditEntry.NAME_MAX, required=False)
    action = forms.CharField(max_length=50, required=False)


def show_audit_log(request: HttpRequest) -> HttpResponse:
    """Show a page of entries, newest first. audit_entry_by_subject serves a subject, the primary key everything else."""
    form = AuditFilterForm(request.GET, label_suffix="")
    entries = AuditEntry.objects.none()
    if form.is_valid():
        entries = AuditEntry.objects.filter(**{name: value for name, value in form.cleaned_data.items() if value})
    rows, links = list_page(request, entries)
    shown = [(entry, _subject_link(entry.subject), _details(entry)) for entry in rows]
    return render_page(request, "audit.html", title="Audit log", form=form, entries=shown, **links)


def _subject_link(subject: str) -> str:
    """Return the page of a job; for anything else, the entries about the same subject."""
    kind, _, name = subject.partition("/")
    try:
        if kind == "job":
            return reverse("admin:jobs_job_change", args=[name])
    except NoReverseMatch:
        pass
    return link({}, subject=subject)


def _details(entry: AuditEntry) -> str:
    return ", ".join(f"{name}: {value}" for name, value in entry.details.items() if value is not None)
