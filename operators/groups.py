"""The two groups of admin users: read-only users, and operators, who can also act."""

from typing import Any

from django.contrib.auth.models import Group, Permission

READ_ONLY, OPERATOR = "Semel read-only", "Semel operator"

# The apps whose rows the admin shows.
APPS = ("accounts", "idempotency", "jobs")
# The operators' permissions beyond viewing. `operate_job` covers all that services change: jobs, keys, pauses.
_ACT = ("operate_job", "add_tenant", "add_apikey", "change_apikey")


def create_groups(**_signal: Any) -> None:  # noqa: ANN401 - a signal's receiver
    """Create both groups with the permissions that exist by now. Permissions that an installation added to them stay.

    A receiver of `post_migrate`, called once per app in APPS; the last call finds all permissions.
    """
    permissions = Permission.objects.filter(content_type__app_label__in=APPS)
    view, act = permissions.filter(codename__startswith="view_"), permissions.filter(codename__in=_ACT)
    Group.objects.get_or_create(name=READ_ONLY)[0].permissions.add(*view)
    Group.objects.get_or_create(name=OPERATOR)[0].permissions.add(*view, *act)
