"""``manage.py startoperation``."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from jobs.checks import NAME

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"
ROOT = Path(__file__).resolve().parents[3]


class Command(BaseCommand):
    help = "Write a new operation and its test, both working, as a starting point: startoperation crm.sync_contact."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="<noun>.<verb>, such as crm.sync_contact")
        parser.add_argument("--root", type=Path, default=ROOT, help="the folder that holds operations/ and tests/")

    def handle(self, *_args: Any, name: str, root: Path, **_options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Write both files, or none if one of them exists."""
        if not NAME.fullmatch(name):
            raise CommandError(f"A name must be <noun>.<verb> in lower case, such as crm.sync_contact, not {name!r}.")
        module = name.rpartition(".")[2] if name.count(".") == 1 else name.partition(".")[2].replace(".", "_")
        class_name = "".join(word.capitalize() for word in module.split("_"))
        files = {
            root / "operations" / f"{module}.py": "operation.py-tpl",
            root / "tests" / "integration" / f"test_{module}.py": "test_operation.py-tpl",
        }
        for file in files:
            if file.exists():
                raise CommandError(f"{file} exists already: choose another name, or change that file.")
            if not file.parent.is_dir():
                raise CommandError(
                    f"{file.parent} is not a folder: run this in the folder that holds operations/ and tests/, or pass --root."
                )
        values = {"name": name, "module": module, "class_name": class_name}
        for file, template in files.items():
            text = (TEMPLATES / template).read_text(encoding="utf-8").format(**values)
            with file.open("x", encoding="utf-8") as stream:
                stream.write(text)
            self.stdout.write(f"wrote {file.relative_to(root)}")
        path = f"operations.{module}.{class_name}"
        if path not in settings.OPERATIONS:
            self.stdout.write(
                f'Add it to OPERATIONS (config/settings/jobs.py, or the environment) when clients may use it: "{path}"'
            )
        self.stdout.write(f"Try it: python3 run.py test -n 0 tests/integration/test_{module}.py")
