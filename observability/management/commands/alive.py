"""``manage.py alive``: the same as `python -m observability.liveness`, which starts sooner."""

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from observability.liveness import add_arguments, report


class Command(BaseCommand):
    help = "Check that a worker, maintenance, beat or streams process on this host is alive: exit code 0 or 1."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_arguments(parser)

    def handle(self, *_args: Any, kind: str, max_age: float, **_options: Any) -> None:  # noqa: ANN401 - Django's signature
        sys.exit(report(kind, max_age))
