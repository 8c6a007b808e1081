"""The admin as people on call see it: users of each kind, and what a page says."""

from __future__ import annotations

import re
from functools import cache
from html import unescape
from typing import TYPE_CHECKING
from uuid import UUID

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Permission, User
from django.test import Client

if TYPE_CHECKING:
    from django.http import HttpResponse

PASSWORD = "correct horse battery"
JOBS = "/admin/jobs/job/"


def user_with(*permissions: str, name: str = "ada", **facts: bool) -> User:
    """A member of staff with these permissions ("view_job")."""
    user = User.objects.create(username=name, password=_hashed(), is_staff=True, **facts)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return user


@cache
def _hashed() -> str:
    """The hash of all users' password: made once, since it is meant to cost a third of a second."""
    return make_password(PASSWORD)


def client_of(user: User) -> Client:
    """The user's browser, logged in. It sends what a browser does: forms need their token."""
    client = Client(enforce_csrf_checks=False)
    client.force_login(user)
    return client


def text_of(response: HttpResponse) -> str:
    """What a person reads of the page, white space made one."""
    html = response.content.decode()
    html = re.sub(r"(?s)<(script|style|head|datalist|select)\b.*?</\1>", " ", html)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def job_ids(response: HttpResponse) -> list[UUID]:
    """The jobs that the page lists, in its order."""
    assert response.status_code == 200
    return [
        UUID(found)
        for found in re.findall(r'class="id" href="[^"]*/job/([^/"]+)/"', response.content.decode())
    ]
