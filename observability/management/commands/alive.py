"""``manage.py alive``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand

from observability.liveness import KINDS, MAX_AGE_SECONDS, why_not_alive

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """The same as `python -m observability.liveness`, which starts sooner."""

    help = "Tell whether a worker, maintenance, beat or streams process on this host still goes round: exit code 0 or 1."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Which process, and how old its last sign of life may be."""
        parser.add_argument("kind", choices=KINDS)
        parser.add_argument("--max-age", type=float, default=MAX_AGE_SECONDS, help="seconds; default: 30")

    def handle(self, *_args: Any, kind: str, max_age: float, **_options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Print what is wrong."""
        why = why_not_alive(kind, max_age=max_age)
        self.stdout.write(why or f"{kind} is alive.")
        if why:
            sys.exit(1)
