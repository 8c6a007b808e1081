"""``manage.py create_api_key TENANT --mode test``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from accounts.models import Mode, Tenant
from accounts.services import create_api_key

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """Creates an API key and prints it, this once."""

    help = "Create an API key for a tenant. The key goes to standard output, once; it cannot be read again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """A tenant's name, the mode, and whether the key may do an operator's work."""
        parser.add_argument("tenant")
        parser.add_argument("--mode", choices=Mode.values, required=True)
        parser.add_argument("--admin", action="store_true", help="the key may also resolve unknown outcomes")

    def handle(self, *_args: Any, **options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Create it, or say why not."""
        try:
            tenant = Tenant.objects.get(name=options["tenant"])
        except Tenant.DoesNotExist as error:
            raise CommandError(
                f"No tenant named {options['tenant']!r}. First: manage.py create_tenant {options['tenant']}"
            ) from error
        self.stderr.write("The key below is shown once; store it now.")
        self.stdout.write(str(create_api_key(tenant=tenant, mode=options["mode"], is_admin=options["admin"])))
