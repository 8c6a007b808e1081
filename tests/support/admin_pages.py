"""Users of the admin, and what its pages contain."""

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
    """Create a staff user with these permissions ("view_job")."""
    user = User.objects.create(username=name, password=_hashed(), is_staff=True, **facts)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return user


@cache
def _hashed() -> str:
    """Return the hash of the users' password. It is computed once, because it takes a third of a second."""
    return make_password(PASSWORD)


def client_of(user: User) -> Client:
    """Return a client that is logged in as the user."""
    client = Client(enforce_csrf_checks=False)
    client.force_login(user)
    return client


def text_of(response: HttpResponse) -> str:
    """Return the visible text of the page with single spaces."""
    html = response.content.decode()
    html = re.sub(r"(?s)<(script|style|head|datalist|select)\b.*?</\1>", " ", html)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def job_ids(response: HttpResponse) -> list[UUID]:
    """Return the ids of the jobs that the page lists, in its order."""
    assert response.status_code == 200
    return [UUID(found) for found in re.findall(r'class="id" href="[^"]*/job/([^/"]+)/"', response.content.decode())]
