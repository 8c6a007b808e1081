"""Two groups stand ready after a migration: who looks, and who acts."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission

from operators.groups import OPERATOR, READ_ONLY, create_groups

pytestmark = pytest.mark.django_db

LOOKS = {
    "accounts.view_auditentry",
    "accounts.view_apikey",
    "accounts.view_tenant",
    "idempotency.view_idempotencyrecord",
    "jobs.view_job",
}
ACTS = {"jobs.operate_job", "accounts.add_tenant", "accounts.add_apikey", "accounts.change_apikey"}


@pytest.fixture(autouse=True)
def _groups():
    """As after a migration, whatever a test before this one emptied."""
    create_groups()


def permissions(group):
    user = get_user_model().objects.create_user("ada")
    user.groups.add(Group.objects.get(name=group))
    return user.get_all_permissions()


def test_who_only_looks_may_change_nothing():
    may = permissions(READ_ONLY)
    assert may >= LOOKS
    assert all(permission.partition(".")[2].startswith("view_") for permission in may)


def test_an_operator_looks_and_acts_and_edits_no_row():
    may = permissions(OPERATOR)
    assert may >= LOOKS
    assert {permission for permission in may if ".view_" not in permission} == ACTS


def test_what_an_installation_added_to_a_group_stays():
    added = Permission.objects.get(codename="change_tenant")
    Group.objects.get(name=READ_ONLY).permissions.add(added)
    create_groups()
    assert added in Group.objects.get(name=READ_ONLY).permissions.all()
