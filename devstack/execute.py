"""``run.py exec``: a command in the environment of the running stack."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Never

from devstack.environment import with_our_tools, with_postgres_tools
from devstack.errors import LauncherError
from devstack.folder import read_state
from devstack.stopping import TAG

if TYPE_CHECKING:
    from pathlib import Path


def execute(*, data: Path, words: list[str]) -> Never:
    """The command runs in place of this process: its signals, its terminal and its exit code are its own."""
    if words[:1] == ["--"]:
        words = words[1:]
    if not words:
        raise LauncherError("Which command? For example: python3 run.py exec -- manage.py dbshell")
    stack: dict[str, str] = read_state(data)["env"]
    settled = {"DJANGO_SETTINGS_MODULE": "config.settings", "SEMEL_ENV_FILE": "", **stack}
    env = with_postgres_tools(with_our_tools({**os.environ, **settled}))
    env.pop(TAG, None)  # the stack's end is not this command's
    env.pop("SEMEL_PROCESS", None)  # each program says what it is
    if words[0] == "manage.py":
        words = [sys.executable, *words]
    program = shutil.which(words[0], path=env["PATH"])
    if program is None:
        raise LauncherError(f"There is no command {words[0]}.")
    os.execve(program, words, env)
