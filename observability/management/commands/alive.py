"""``manage.py alive``: the same as `python -m observability.liveness`, which starts sooner."""

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from observability.liveness import KINDS, MAX_AGE_SECONDS, liveness_error


class Command(BaseCommand):
    help = "Check that a worker, maintenance, beat or streams process on this host is alive: exit code 0 or 1."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("kind", choices=KINDS)
        parser.add_argument("--max-age", type=float, default=MAX_AGE_SECONDS, help="seconds; default: 30")

    def handle(self, *_args: Any, kind: str, max_age: float, **_options: Any) -> None:  # noqa: ANN401 - Django's signature
        error = liveness_error(kind, max_age=max_age)
        self.stdout.write(error or f"{kind} is alive.")
        if error:
            sys.exit(1)
