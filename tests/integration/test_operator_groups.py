"""A migration creates the read-only group and the operators' group."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission

from operators.groups import OPERATOR, READ_ONLY, create_groups

pytestmark = pytest.mark.django_db

VIEW_PERMISSIONS = {
    "accounts.view_auditentry",
    "accounts.view_apikey",
    "accounts.view_tenant",
    "idempotency.view_idempotencyrecord",
    "jobs.view_job",
}
ACT_PERMISSIONS = {"jobs.operate_job", "accounts.add_tenant", "accounts.add_apikey", "accounts.change_apikey"}


@pytest.fixture(autouse=True)
def _groups():
    """Create the groups as a migration does; an earlier test may have emptied the table."""
    create_groups()


def permissions(group):
    user = get_user_model().objects.create_user("ada")
    user.groups.add(Group.objects.get(name=group))
    return user.get_all_permissions()


def test_the_read_only_group_may_change_nothing():
    may = permissions(READ_ONLY)
    assert may >= VIEW_PERMISSIONS
    assert all(permission.partition(".")[2].startswith("view_") for permission in may)


def test_the_operators_group_may_act_but_edit_no_row():
    may = permissions(OPERATOR)
    assert may >= VIEW_PERMISSIONS
    assert {permission for permission in may if ".view_" not in permission} == ACT_PERMISSIONS


def test_permissions_that_an_installation_added_stay():
    added = Permission.objects.get(codename="change_tenant")
    Group.objects.get(name=READ_ONLY).permissions.add(added)
    create_groups()
    assert added in Group.objects.get(name=READ_ONLY).permissions.all()
