"""``manage.py create_tenant NAME``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError
from django.db import IntegrityError

from accounts.models import Tenant
from accounts.services import create_tenant

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """Creates a tenant."""

    help = "Create a tenant: the customer to whom API keys, jobs and idempotency keys belong."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """One name; it must be new."""
        parser.add_argument("name")
        parser.add_argument(
            "--exist-ok", action="store_true", help="succeed where the tenant is there already"
        )

    def handle(self, *_args: Any, **options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Create it, or say why not."""
        name = options["name"]
        if options["exist_ok"] and Tenant.objects.filter(name=name).exists():
            self.stdout.write(f"Tenant {name!r} is there already.")
            return
        try:
            create_tenant(name=name)
        except IntegrityError as error:
            raise CommandError(f"A tenant named {name!r} exists already.") from error
        self.stdout.write(f"Tenant {name!r} created. Next: manage.py create_api_key {name} --mode test")
