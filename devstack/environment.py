"""The environment variables that a stack's processes get: what docker-compose.yml would set."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from devstack.arguments import ROOT
from devstack.binaries import postgres_bin
from devstack.errors import LauncherError
from devstack.stopping import TAG

if TYPE_CHECKING:
    from collections.abc import Mapping

    from devstack.folder import Folder

_READ_BY_SETTINGS = re.compile(r'\benv\.\w+\(\s*"([A-Z_]+)"')
# Servers outside: whoever embeds its own must not touch them, nor charge real cards.
OUTSIDE = (
    "DATABASE_URL",
    "REDIS_URL",
    "PAYMENT_PROVIDER_URL",
    "PAYMENT_PROVIDER_KEY",
    "PROVISION_DATABASE_URL",
)
# What the launcher decides for each process, whatever it was itself started with.
_OURS = (
    "PROMETHEUS_MULTIPROC_DIR",
    "SEMEL_PROCESS",
    "SEMEL_STARTED_IN",
    "STREAMS_URL",
    "PUBLIC_BASE_URL",
    TAG,
)


def outside_servers() -> tuple[str, str] | None:
    """``DATABASE_URL`` and ``REDIS_URL`` if the user has servers; None if Semel brings its own."""
    database, broker = os.environ.get("DATABASE_URL"), os.environ.get("REDIS_URL")
    if bool(database) != bool(broker):
        given, missing = ("DATABASE_URL", "REDIS_URL") if database else ("REDIS_URL", "DATABASE_URL")
        raise LauncherError(
            f"{given} is set and {missing} is not: set both, or neither to have them embedded."
        )
    return (database, broker) if database and broker else None


def ours_alone(names: tuple[str, ...]) -> None:
    """This process and all it starts have never heard of the user's own servers."""
    for name in names:
        os.environ.pop(name, None)


def base_environment(tag: str) -> dict[str, str]:
    """The user's environment, marked as this stack's, in which our programs are found first."""
    env = {name: value for name, value in os.environ.items() if name not in _OURS}
    return with_our_tools(env) | {
        TAG: tag,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "SEMEL_ENV_FILE": "",  # .env is a deployment's: its payment provider is a real one
        "PYTHONUNBUFFERED": "1",  # so that a log's end is there when it is wanted
    }


def settings_environment(
    base: Mapping[str, str], folder: Folder, *, database_url: str, redis_url: str
) -> dict[str, str]:
    """Everything that config.settings insists on; what the user has set himself stays."""
    secrets = folder.secrets()
    defaults = {
        "ARTIFACTS_ROOT": str(folder.path / "artifacts"),
        "SECRET_KEY": secrets["secret_key"],
        "IDEMPOTENCY_FINGERPRINT_KEYS": f"k1:{secrets['fingerprint_key']}",
        "ALLOWED_HOSTS": "localhost,127.0.0.1,[::1]",
        "SECURE_COOKIES": "false",  # the admin is served over plain HTTP, on this machine only
    }
    return {**defaults, **base, "DATABASE_URL": database_url, "REDIS_URL": redis_url}


def only_settings(env: Mapping[str, str]) -> dict[str, str]:
    """What config/settings/ reads of it: all that another command needs, and nothing else that the user's shell holds."""
    files = sorted((ROOT / "config" / "settings").glob("*.py"))
    read = {name for file in files for name in _READ_BY_SETTINGS.findall(file.read_text(encoding="utf-8"))}
    return {name: value for name, value in env.items() if name in read}


def with_our_tools(env: Mapping[str, str]) -> dict[str, str]:
    """The environment in which the programs of this .venv are found first."""
    folders = [str(Path(sys.executable).parent), env.get("PATH", os.defpath)]
    return {**env, "PATH": os.pathsep.join(folders)}


def with_postgres_tools(env: Mapping[str, str]) -> dict[str, str]:
    """``psql`` is found, for ``manage.py dbshell``; one that the user has already comes second to the matching one."""
    try:
        tools = str(postgres_bin())
    except LauncherError:  # servers outside, on a platform without a wheel
        return dict(env)
    first, _, rest = env["PATH"].partition(os.pathsep)
    return {**env, "PATH": os.pathsep.join([first, tools, rest])}
