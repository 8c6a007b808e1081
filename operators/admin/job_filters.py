"""The filters of the list of jobs, as the address has them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django import forms
from django.utils import timezone

from accounts.models import Mode, Tenant
from jobs.models import Priority
from jobs.registry import operations
from jobs.selectors import JobFilter
from jobs.states import State

if TYPE_CHECKING:
    from django.http import QueryDict

_INSTANT = "%Y-%m-%dT%H:%M"  # what browsers send
# Offered as links; the address holds the instant, so that it means the same when it is opened again.
_RECENT = {"15 minutes": 15, "hour": 60, "day": 24 * 60, "week": 7 * 24 * 60}

# Tenants that the form offers to choose from.
_TENANTS_OFFERED = 200


class _Instant(forms.DateTimeField):
    """An instant in UTC."""

    widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format=_INSTANT)


class JobFilterForm(forms.Form):
    """Which jobs to list. Empty: all of them."""

    state = forms.ChoiceField(choices=[("", "any"), *((state, state) for state in State)], required=False)
    operation = forms.CharField(max_length=100, required=False)
    tenant = forms.ModelChoiceField(Tenant.objects.order_by("name"), empty_label="any", required=False)
    mode = forms.ChoiceField(choices=[("", "any"), *Mode.choices], required=False)
    priority = forms.TypedChoiceField(
        choices=[("", "any"), *Priority.choices], coerce=int, empty_value=None, required=False
    )
    error_code = forms.CharField(max_length=100, required=False)
    error_cause = forms.CharField(max_length=200, required=False)
    created_from = _Instant(label="From (UTC)", required=False)
    created_to = _Instant(label="To (UTC)", required=False)

    def __init__(self, asked: QueryDict) -> None:
        super().__init__(asked, label_suffix="")
        self.fields["operation"].widget.attrs |= {"list": "operations", "placeholder": "any"}
        tenant: Any = self.fields["tenant"]
        # A page need not name a hundred thousand; the filter itself takes each (a tenant's page links here).
        known = [*tenant.queryset[:_TENANTS_OFFERED], *tenant.queryset.filter(pk=_whole(asked.get("tenant")))]
        tenant.widget.choices = [("", "any"), *dict.fromkeys((one.pk, one.name) for one in known)]

    @property
    def known_operations(self) -> list[str]:
        """What can be chosen for `operation`; an older name can be typed."""
        return sorted({name for name, _ in operations()})

    def job_filter(self) -> JobFilter:
        """The filter, once the form is valid."""
        said: dict[str, Any] = {name: value or None for name, value in self.cleaned_data.items()}
        tenant = said.pop("tenant")
        said["priority"] = self.cleaned_data["priority"]  # 0 is high
        said["created_before"] = said.pop("created_to")
        return JobFilter(**said, tenant_id=tenant and tenant.id)


def link(asked: QueryDict, **changes: object) -> str:
    """The list's address with these filters changed (None: dropped), on its first page unless the change is a page."""
    query = asked.copy()
    for name in ("older_than", "newer_than", "q"):
        query.pop(name, None)
    for name, value in changes.items():
        query.pop(name, None)
        if value is not None:
            query[name] = str(value)
    kept = query.copy()
    for name, value in query.items():
        if not value:
            del kept[name]
    return f"?{kept.urlencode()}"


def recent_links(asked: QueryDict) -> list[tuple[str, str]]:
    """Links to the jobs of the last minutes, hours and days."""
    now = timezone.now()
    return [
        (
            name,
            link(asked, created_from=f"{now - timedelta(minutes=minutes):{_INSTANT}}", created_to=None),
        )
        for name, minutes in _RECENT.items()
    ]


def _whole(text: str | None) -> int:
    """The whole number, or one that no tenant has."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else 0  # noqa: PLR2004 - bigint
