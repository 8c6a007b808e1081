"""The filters of the list of jobs, as the address holds them."""

from datetime import timedelta
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils import timezone

from accounts.models import Mode, Tenant
from jobs.models import Priority
from jobs.registry import operations
from jobs.selectors import JobFilter
from jobs.states import State
from operators.admin.list_page import link, row_id

_TIME_FORMAT = "%Y-%m-%dT%H:%M"  # what browsers send
# Minutes. The links hold the time itself, so that an address finds the same jobs when it is opened later.
_RECENT = {"15 minutes": 15, "hour": 60, "day": 24 * 60, "week": 7 * 24 * 60}
# Tenants to choose from. The page need not list a hundred thousand; the filter accepts each.
_MAX_TENANT_CHOICES = 200


class _UtcTimeField(forms.DateTimeField):
    widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format=_TIME_FORMAT)


class JobFilterForm(forms.Form):
    """Which jobs to list; an empty field matches any job."""

    state = forms.ChoiceField(choices=[("", "any"), *((state, state) for state in State)], required=False)
    operation = forms.CharField(max_length=100, required=False)
    tenant = forms.ModelChoiceField(Tenant.objects.order_by("name"), empty_label="any", required=False)
    mode = forms.ChoiceField(choices=[("", "any"), *Mode.choices], required=False)
    priority = forms.TypedChoiceField(
        choices=[("", "any"), *Priority.choices], coerce=int, empty_value=None, required=False
    )
    error_code = forms.CharField(max_length=100, required=False)
    error_cause = forms.CharField(max_length=200, required=False)
    created_from = _UtcTimeField(label="From (UTC)", required=False)
    created_to = _UtcTimeField(label="To (UTC)", required=False)

    def __init__(self, query: QueryDict) -> None:
        super().__init__(query, label_suffix="")
        self.fields["operation"].widget.attrs |= {"list": "operations", "placeholder": "any"}
        field: Any = self.fields["tenant"]
        chosen = field.queryset.filter(pk=row_id(field.queryset, query.get("tenant")))
        offered = dict.fromkeys((one.pk, one.name) for one in [*field.queryset[:_MAX_TENANT_CHOICES], *chosen])
        field.widget.choices = [("", "any"), *offered]

    @property
    def known_operations(self) -> list[str]:
        """Return the suggestions for `operation`; an older name can be typed."""
        return sorted({name for name, _ in operations()})

    def job_filter(self) -> JobFilter:
        """Return the filter of the valid form."""
        fields: dict[str, Any] = {name: value or None for name, value in self.cleaned_data.items()}
        tenant = fields.pop("tenant")
        fields["priority"] = self.cleaned_data["priority"]  # 0 is a priority
        fields["created_before"] = fields.pop("created_to")
        return JobFilter(**fields, tenant_id=tenant and tenant.id)


def recent_links(query: QueryDict) -> list[tuple[str, str]]:
    """Return links to the jobs of the last minutes, hours and days."""
    now = timezone.now()
    since = {name: now - timedelta(minutes=minutes) for name, minutes in _RECENT.items()}
    return [(name, link(query, created_from=f"{at:{_TIME_FORMAT}}", created_to=None)) for name, at in since.items()]
