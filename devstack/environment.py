"""The environment variables of a stack's processes, as docker-compose.yml sets them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from devstack.arguments import ROOT
from devstack.binaries import postgres_bin
from devstack.console import LauncherError
from devstack.stopping import TAG

if TYPE_CHECKING:
    from devstack.folder import Folder

_READ_BY_SETTINGS = re.compile(r'\benv\.\w+\(\s*"([A-Z_]+)"')
# The user's own servers: a stack with embedded servers must not use them, nor charge real cards.
_OUTSIDE = ("DATABASE_URL", "REDIS_URL", "PAYMENT_PROVIDER_URL", "PAYMENT_PROVIDER_KEY", "PROVISION_DATABASE_URL")
# Hides packages of development from Semel's processes.
IMAGE_ONLY = ROOT / "devstack" / "image_only"
# The launcher sets these for each process, whatever its own environment holds.
_SET_BY_LAUNCHER = (
    "PROMETHEUS_MULTIPROC_DIR",
    "SEMEL_PROCESS",
    "SEMEL_STARTED_IN",
    "STREAMS_URL",
    "PUBLIC_BASE_URL",
    TAG,
)


def outside_servers() -> tuple[str, str] | None:
    """Return ``DATABASE_URL`` and ``REDIS_URL`` if the user has servers, None if they are to be embedded."""
    database, broker = os.environ.get("DATABASE_URL"), os.environ.get("REDIS_URL")
    if bool(database) != bool(broker):
        given, missing = ("DATABASE_URL", "REDIS_URL") if database else ("REDIS_URL", "DATABASE_URL")
        raise LauncherError(f"{given} is set and {missing} is not: set both, or neither to use embedded servers.")
    return (database, broker) if database and broker else None


def forget_outside_servers() -> None:
    """Remove the user's own servers from this process's environment, and so from all that it starts."""
    for name in _OUTSIDE:
        os.environ.pop(name, None)


def base_environment(tag: str) -> dict[str, str]:
    """Return the user's environment with the stack's tag and the programs of this .venv first on the PATH."""
    env = {name: value for name, value in os.environ.items() if name not in _SET_BY_LAUNCHER}
    return with_our_tools(env) | {
        TAG: tag,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "SEMEL_ENV_FILE": "",  # .env belongs to a deployment, and may name a real payment provider
        "PYTHONUNBUFFERED": "1",  # so that the end of a log is never missing
    }


def settings_environment(
    base: Mapping[str, str], folder: Folder, *, database_url: str, redis_url: str
) -> dict[str, str]:
    """Add every setting without a default; values that the user has set stay."""
    secrets = folder.secrets()
    defaults = {
        "ARTIFACTS_ROOT": str(folder.path / "artifacts"),
        "SECRET_KEY": secrets["secret_key"],
        "IDEMPOTENCY_FINGERPRINT_KEYS": f"k1:{secrets['fingerprint_key']}",
        "ALLOWED_HOSTS": "localhost,127.0.0.1,[::1]",
        "SECURE_COOKIES": "false",  # the admin is served over plain HTTP, to this machine only
    }
    return {**defaults, **base, "DATABASE_URL": database_url, "REDIS_URL": redis_url}


def without_development(env: Mapping[str, str]) -> dict[str, str]:
    """Return variables that hide packages of development from Python. Tracing uses such packages: then they are empty."""
    if env.get("OTEL_EXPORTER_OTLP_ENDPOINT") or env.get("OTEL_TRACES_EXPORTER"):
        return {}
    others = env.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([str(IMAGE_ONLY), *([others] if others else [])])}


def only_settings(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that config/settings/ reads: all that another command needs, and nothing else of the user's."""
    files = sorted((ROOT / "config" / "settings").glob("*.py"))
    read = {name for file in files for name in _READ_BY_SETTINGS.findall(file.read_text(encoding="utf-8"))}
    return {name: value for name, value in env.items() if name in read}


def with_our_tools(env: Mapping[str, str]) -> dict[str, str]:
    """Put the programs of this .venv first on the PATH."""
    folders = [str(Path(sys.executable).parent), env.get("PATH", os.defpath)]
    return {**env, "PATH": os.pathsep.join(folders)}


def with_postgres_tools(env: Mapping[str, str]) -> dict[str, str]:
    """Put the embedded server's ``psql`` on the PATH for ``manage.py dbshell``, before one of another version."""
    try:
        tools = str(postgres_bin())
    except LauncherError:  # the user's own servers, on a platform without a wheel
        return dict(env)
    first, _, rest = env["PATH"].partition(os.pathsep)
    return {**env, "PATH": os.pathsep.join([first, tools, rest])}
