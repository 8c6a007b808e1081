"""The two groups of people who look after an installation: those who look, and those who act."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group, Permission

READ_ONLY, OPERATOR = "Semel read-only", "Semel operator"

_OUR_APPS = ("accounts", "idempotency", "jobs")
# What an operator may do beyond looking. Jobs, keys and pauses are changed by services, behind the one `operate_job`.
_ACTS = (
    ("jobs", "operate_job"),
    ("accounts", "add_tenant"),
    ("accounts", "add_apikey"),
    ("accounts", "change_apikey"),
)


def make_groups(**_signal: Any) -> None:  # noqa: ANN401 # a signal's receiver
    """Both groups are there, with the permissions that are known by now. Adds only: what an installation added to them stays.

    After each migration (`post_migrate`), once a migrated app: the last one knows them all.
    """
    known = {
        (permission.content_type.app_label, permission.codename): permission
        for permission in Permission.objects.filter(content_type__app_label__in=_OUR_APPS).select_related(
            "content_type"
        )
    }
    looks = [permission for (_, codename), permission in known.items() if codename.startswith("view_")]
    acts = [known[act] for act in _ACTS if act in known]
    Group.objects.get_or_create(name=READ_ONLY)[0].permissions.add(*looks)
    Group.objects.get_or_create(name=OPERATOR)[0].permissions.add(*looks, *acts)
