"""``manage.py sweep``."""

from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand

from workers import sweep


class Command(BaseCommand):
    help = "Sweep once, now: publish due jobs, end expired leases, fail jobs past their deadline."

    def handle(self, *_args: Any, **_options: Any) -> None:  # noqa: ANN401 - Django's signature
        counts = sweep.run_once()
        self.stdout.write(", ".join(f"{name}: {number}" for name, number in asdict(counts).items()))
