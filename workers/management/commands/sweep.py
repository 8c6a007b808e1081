"""``manage.py sweep``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand

from workers.sweep import run_once


class Command(BaseCommand):
    """Runs what beat runs, once and now."""

    help = "Publish due jobs, end leases that are over, lapse passed deadlines: once, now."

    def handle(self, *_args: Any, **_options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Print what was done."""
        counts = run_once()
        self.stdout.write(", ".join(f"{name}: {number}" for name, number in asdict(counts).items()))
