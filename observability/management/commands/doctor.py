"""``manage.py doctor``."""

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.checks import ERROR, WARNING, CheckMessage
from django.core.management.base import BaseCommand

from observability.doctor.checks import examine

_LEVELS = ("ok", "warning", "error")  # the index is the exit code


class Command(BaseCommand):
    """Report on settings, database, broker and waiting jobs. Changes nothing."""

    help = (
        "Report what would break a promise of this deployment, and what to do. Exit code: 0 ok, 1 warnings, 2 errors."
    )
    requires_system_checks = []  # they are among the findings

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", dest="as_json", help="print one JSON document")

    def handle(self, *_args: Any, as_json: bool, **_options: Any) -> None:  # noqa: ANN401 - Django's signature
        findings = [_fields(message) for message in examine()]
        worst = max(_LEVELS.index(finding["level"]) for finding in findings)
        if as_json:
            self.stdout.write(json.dumps({"status": _LEVELS[worst], "findings": findings}, indent=2))
        else:
            for finding in findings:
                self._print(**finding)
            counts = [f"{sum(finding['level'] == level for finding in findings)} {level}" for level in _LEVELS]
            self.stdout.write(", ".join(counts))
        if worst:
            sys.exit(worst)

    def _print(self, *, check: str, level: str, says: str, means: str, do: str) -> None:
        styles = {"ok": self.style.SUCCESS, "warning": self.style.WARNING, "error": self.style.ERROR}
        self.stdout.write(f"{styles[level](f'{level:8}')} {check:26} {says}")
        if level != "ok":
            self.stdout.write(f"{'':9}means: {means}\n{'':9}do:    {do}")


def _fields(message: CheckMessage) -> dict[str, str]:
    says, _, means = str(message.msg).partition("\n")
    level = _LEVELS[(message.level >= WARNING) + (message.level >= ERROR)]
    return {"check": str(message.id), "level": level, "says": says, "means": means, "do": str(message.hint or "")}
