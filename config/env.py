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
    """Like django-environ, but an unknown word is an error, not False."""

    def bool(self, var: str, default: Any = environ.Env.NOTSET) -> bool:  # noqa: ANN401
        """Read true/false, yes/no, on/off or 1/0. Raises ImproperlyConfigured for anything else."""
        word = self.str(var, default=default)
        if isinstance(word, bool):
            return word
        if word.lower() in {"true", "yes", "on", "1"}:
            return True
        if word.lower() in {"false", "no", "off", "0"}:
            return False
        raise ImproperlyConfigured(f"{var} must be true or false, not {word!r}.")

    def choice(self, var: str, words: tuple[str, ...], default: str) -> str:
        """Read one of these words. Raises ImproperlyConfigured for anything else."""
        word: str = self.str(var, default=default).lower()
        if word not in words:
            raise ImproperlyConfigured(f"{var} must be one of {', '.join(words)}, not {word!r}.")
        return word


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
    return "maintenance" if any(word.endswith("maintenance") for word in argv) else "worker"
