"""``manage.py purge``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from idempotency.purge import run_once


class Command(BaseCommand):
    """Runs what beat runs, once and now."""

    help = "Delete expired idempotency keys whose job has ended: once, now."

    def handle(self, *_args: Any, **_options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Print what was done."""
        counts = run_once(settings.BATCH_ROWS)
        self.stdout.write(", ".join(f"{name}: {number}" for name, number in asdict(counts).items()))
