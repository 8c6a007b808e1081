"""``manage.py selfaudit``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand

from jobs.models import Violation
from jobs.selfaudit import run_once

if TYPE_CHECKING:
    from django.core.management.base import CommandParser


class Command(BaseCommand):
    help = "Check the invariants of recent jobs and keys, without a time limit. Exit code 1 if one is broken."

    def add_arguments(self, parser: CommandParser) -> None:
        hours = settings.SELFAUDIT_WINDOW_SECONDS / 3600
        parser.add_argument("--hours", type=float, default=hours, help=f"how far back to look (default: {hours:g})")

    def handle(self, *_args: Any, hours: float, **_options: Any) -> None:  # noqa: ANN401 - Django's signature
        counts = run_once(window=timedelta(hours=hours))
        self.stdout.write(", ".join(f"{name}: {number}" for name, number in asdict(counts).items()))
        for violation in Violation.objects.filter(resolved_at=None).order_by("-last_seen_at")[:100]:
            self.stdout.write(f"{violation.invariant} {violation.rule} {violation.subject} {violation.details}")
        if not counts.is_clean:
            sys.exit(1)
