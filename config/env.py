"""The environment, read once and strictly: a value that does not fit its type stops the process with a clear line."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent


class StrictEnv(environ.Env):  # type: ignore[misc] # django-environ ships no types
    """django-environ, without its habit of reading any unknown word as False."""

    def bool(self, var: str, default: Any = environ.Env.NOTSET) -> bool:  # noqa: ANN401
        """Read true/false, yes/no, on/off or 1/0; anything else is refused."""
        word = self.str(var, default=default)
        if isinstance(word, bool):
            return word
        if word.lower() in {"true", "yes", "on", "1"}:
            return True
        if word.lower() in {"false", "no", "off", "0"}:
            return False
        raise ImproperlyConfigured(f"{var} must be true or false, not {word!r}.")


class Process(StrEnum):
    """Which of Semel's processes this is: it decides how long a statement may take and a connection lives."""

    API = "api"
    STREAMS = "streams"
    WORKER = "worker"
    MANAGE = "manage"


env = StrictEnv()
# run.py sets it empty: what a deployment's file says (a real payment provider, say) must not reach a demo or a test.
_FILE = os.environ.get("SEMEL_ENV_FILE", str(BASE_DIR / ".env"))
if _FILE and Path(_FILE).exists():
    environ.Env.read_env(_FILE)
# wsgi.py, asgi.py and manage.py say what they are; everything started by the celery command is a worker to the database.
_DEFAULT = Process.WORKER if Path(sys.argv[0]).name == "celery" else Process.MANAGE
PROCESS = Process(os.environ.get("SEMEL_PROCESS", _DEFAULT))
