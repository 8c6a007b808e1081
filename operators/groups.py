"""The two groups of admin users: those who may only look, and those who may also act."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group, Permission

READ_ONLY, OPERATOR = "Semel read-only", "Semel operator"

# The apps whose rows the admin shows.
APPS = ("accounts", "idempotency", "jobs")
# The operators' permissions beyond looking. One permission, `operate_job`, covers all that services change: jobs, keys, pauses.
_OPERATOR_PERMISSIONS = (
    ("jobs", "operate_job"),
    ("accounts", "add_tenant"),
    ("accounts", "add_apikey"),
    ("accounts", "change_apikey"),
)


def create_groups(**_signal: Any) -> None:  # noqa: ANN401 - a signal's receiver
    """Create both groups with the permissions that exist by now. Permissions that an installation added to them stay.

    A receiver of `post_migrate`, called once per app in APPS; the last call finds all permissions.
    """
    permissions = {
        (permission.content_type.app_label, permission.codename): permission
        for permission in Permission.objects.filter(content_type__app_label__in=APPS).select_related(
            "content_type"
        )
    }
    view = [permission for (_, codename), permission in permissions.items() if codename.startswith("view_")]
    act = [permissions[name] for name in _OPERATOR_PERMISSIONS if name in permissions]
    Group.objects.get_or_create(name=READ_ONLY)[0].permissions.add(*view)
    Group.objects.get_or_create(name=OPERATOR)[0].permissions.add(*view, *act)
