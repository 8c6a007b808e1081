"""``manage.py create_api_key TENANT --mode test``."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.models import Mode, Tenant
from accounts.services import create_api_key


class Command(BaseCommand):
    help = "Create an API key for a tenant and print it. It is shown once and cannot be read again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", help="the tenant's name")
        parser.add_argument("--mode", choices=Mode.values, required=True)
        parser.add_argument("--admin", action="store_true", help="the key may also resolve unknown outcomes")

    def handle(self, *_args: Any, **options: Any) -> None:  # noqa: ANN401 - Django's signature
        name = options["tenant"]
        tenant = Tenant.objects.filter(name=name).first()
        if tenant is None:
            raise CommandError(f"No tenant is named {name!r}. Create it first: manage.py create_tenant {name}")
        self.stderr.write("The key below is shown once; store it now.")
        self.stdout.write(str(create_api_key(tenant=tenant, mode=options["mode"], is_admin=options["admin"])))
