"""``manage.py purge``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand

from workers.purge import run_once


class Command(BaseCommand):
    """Runs what beat runs, now, and until nothing is left."""

    help = "Delete expired idempotency keys, and jobs and consumed messages past their retention: now, all of them."

    def handle(self, *_args: Any, **_options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Print what was done."""
        counts = run_once()
        self.stdout.write(", ".join(f"{name}: {number}" for name, number in asdict(counts).items()))
