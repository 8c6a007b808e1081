"""python -m devstack.seed FILE: create a demo tenant with a new API key, and an administrator.

A process of its own in the stack's environment, because the launcher itself never loads Django.
"""

import io
import os
import sys
from pathlib import Path

import django
from django.core.management import call_command

from devstack.folder import write_private

TENANT = "demo"
ADMIN = "admin"


def main(file: Path) -> None:
    """Write the new key to FILE, and whether the administrator has the stack's password."""
    django.setup()
    call_command("create_tenant", TENANT, exist_ok=True)
    output = io.StringIO()
    call_command("create_api_key", TENANT, mode="test", stdout=output, stderr=io.StringIO())
    write_private(file, {"api_key": output.getvalue().split()[-1], "is_admin_ours": _ensure_admin()})


def _ensure_admin() -> bool:
    """Create the administrator if missing. Return whether its password is the one in the environment; never change it."""
    from django.contrib.auth import get_user_model  # noqa: PLC0415 - models exist after setup()

    user = get_user_model().objects.filter(username=ADMIN).first()
    if user is None:
        call_command("createsuperuser", interactive=False, username=ADMIN, email="admin@localhost")
        return True
    return bool(user.check_password(os.environ["DJANGO_SUPERUSER_PASSWORD"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
