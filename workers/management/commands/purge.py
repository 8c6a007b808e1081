"""``manage.py purge``."""

from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand

from workers import purge


class Command(BaseCommand):
    help = "Purge now, without a time limit: expired keys, and jobs, messages and files past their retention."

    def handle(self, *_args: Any, **_options: Any) -> None:  # noqa: ANN401 - Django's signature
        counts = purge.run_once()
        self.stdout.write(", ".join(f"{name}: {number}" for name, number in asdict(counts).items()))
