"""The environment of the yardsticks: their pinned packages in a folder of the user's cache, made once."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from devstack.console import LauncherError

REQUIREMENTS = Path(__file__).with_name("yardsticks.txt")


def yardsticks_python() -> str:
    """Return the Python that has the yardsticks' packages. Installs them if they are missing. Raises LauncherError."""
    folder = _folder()
    python, complete = str(folder / "bin" / "python"), folder / "complete"
    if complete.exists():
        return python
    print(f"Installing the yardsticks into {folder}: this takes about a minute, only at this start.", flush=True)
    _run(sys.executable, "-m", "venv", "--clear", str(folder))
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--quiet"]
    _run(python, "-m", "pip", "install", *options, "-r", str(REQUIREMENTS))
    complete.touch()
    return python


def _folder() -> Path:
    """Return a folder for exactly these packages and this Python."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:12]
    return cache / "semel" / f"yardsticks-{digest}"


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise LauncherError(f"The yardsticks could not be installed:\n{done.stdout}")
