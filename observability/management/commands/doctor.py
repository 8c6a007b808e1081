"""``manage.py doctor``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand

from observability.doctor.examination import examine
from observability.doctor.finding import Level

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from observability.doctor.finding import Finding


class Command(BaseCommand):
    """Examines settings, database, broker and the work that waits; changes nothing."""

    help = "Tell what of this deployment would break a promise, and what to do. Exit code: 0 ok, 1 warnings, 2 errors."
    requires_system_checks = []  # they are among the findings

    def add_arguments(self, parser: ArgumentParser) -> None:
        """For people, or for machines."""
        parser.add_argument("--json", action="store_true", dest="as_json", help="one JSON document")

    def handle(self, *_args: Any, as_json: bool, **_options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Print the findings; the worst is the exit code."""
        findings = examine()
        worst = max(finding.level for finding in findings)
        if as_json:
            told = [{**asdict(finding), "level": str(finding.level)} for finding in findings]
            self.stdout.write(json.dumps({"status": str(worst), "findings": told}, indent=2))
        else:
            for finding in findings:
                self._show(finding)
            counts = [f"{sum(one.level == level for one in findings)} {level}" for level in Level]
            self.stdout.write(", ".join(counts))
        if worst:
            sys.exit(int(worst))

    def _show(self, finding: Finding) -> None:
        style = {
            Level.OK: self.style.SUCCESS,
            Level.WARNING: self.style.WARNING,
            Level.ERROR: self.style.ERROR,
        }
        word = style[finding.level](f"{finding.level!s:8}")
        self.stdout.write(f"{word} {finding.check:26} {finding.says}")
        if finding.level is not Level.OK:
            self.stdout.write(f"{'':9}means: {finding.means}\n{'':9}do:    {finding.do}")
