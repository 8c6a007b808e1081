"""``manage.py create_tenant NAME``."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import IntegrityError

from accounts.models import Tenant
from accounts.services import create_tenant


class Command(BaseCommand):
    help = "Create a tenant: the customer that API keys, jobs and idempotency keys belong to."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="a new name")
        parser.add_argument("--exist-ok", action="store_true", help="succeed if the tenant already exists")

    def handle(self, *_args: Any, **options: Any) -> None:  # noqa: ANN401 - Django's signature
        name = options["name"]
        if options["exist_ok"] and Tenant.objects.filter(name=name).exists():
            self.stdout.write(f"Tenant {name!r} already exists.")
            return
        try:
            create_tenant(name=name)
        except IntegrityError as error:
            raise CommandError(f"A tenant named {name!r} already exists.") from error
        self.stdout.write(f"Tenant {name!r} created. Next: manage.py create_api_key {name} --mode test")
