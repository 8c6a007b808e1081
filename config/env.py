"""Reads the environment, once. A value of the wrong type stops the process with an error that names the variable."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

from foundation.processes import Process

BASE_DIR = Path(__file__).resolve().parent.parent


class StrictEnv(environ.Env):  # type: ignore[misc] # django-environ ships no types
    """Like django-environ, but an unknown value is an error, not False."""

    def bool(self, var: str, default: Any = environ.Env.NOTSET) -> bool:  # noqa: ANN401
        """Read true/false, yes/no, on/off or 1/0. Raises ImproperlyConfigured for anything else."""
        value = self.str(var, default=default)
        if isinstance(value, bool):
            return value
        if value.lower() in {"true", "yes", "on", "1"}:
            return True
        if value.lower() in {"false", "no", "off", "0"}:
            return False
        raise ImproperlyConfigured(f"{var} must be true or false, not {value!r}.")

    def choice(self, var: str, values: tuple[str, ...], default: str) -> str:
        """Read one of these values. Raises ImproperlyConfigured for anything else."""
        value: str = self.str(var, default=default).lower()
        if value not in values:
            raise ImproperlyConfigured(f"{var} must be one of {', '.join(values)}, not {value!r}.")
        return value


env = StrictEnv()
# run.py sets it empty: a deployment's file (a real payment provider, for example) must not reach a demo or a test.
_FILE = os.environ.get("SEMEL_ENV_FILE", str(BASE_DIR / ".env"))
if _FILE and Path(_FILE).exists():
    environ.Env.read_env(_FILE)
# wsgi.py and asgi.py set SEMEL_PROCESS. The celery command starts workers; every other command is management.
_DEFAULT = Process.WORKER if Path(sys.argv[0]).name == "celery" else Process.MANAGE
PROCESS = Process(os.environ.get("SEMEL_PROCESS", _DEFAULT))


def kind_of_process(argv: Sequence[str]) -> str:
    """Return the name of this process in logs: as `PROCESS`, but "beat" and "maintenance" for those workers."""
    if PROCESS is not Process.WORKER:
        return str(PROCESS)
    if "beat" in argv:
        return "beat"
    # -Q maintenance, -Qmaintenance, --queues=maintenance
    return "maintenance" if any(argument.endswith("maintenance") for argument in argv) else "worker"
