"""``run.py exec``: run a command in the environment of the running stack."""

import os
import shutil
import sys
from pathlib import Path
from typing import Never

from devstack.console import LauncherError
from devstack.environment import with_our_tools, with_postgres_tools
from devstack.folder import read_state
from devstack.stopping import TAG


def execute(*, data: Path, command: list[str]) -> Never:
    """Replace this process by the command: signals, terminal and exit code are the command's own."""
    if command[:1] == ["--"]:
        command = command[1:]
    if not command:
        raise LauncherError("Name a command, for example: python3 run.py exec -- manage.py dbshell")
    stack: dict[str, str] = read_state(data)["env"]
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", "SEMEL_ENV_FILE": "", **stack}
    env = with_postgres_tools(with_our_tools(env))
    env.pop(TAG, None)  # the command does not stop with the stack
    env.pop("SEMEL_PROCESS", None)  # each program sets its own
    if command[0] == "manage.py":
        command = [sys.executable, *command]
    program = shutil.which(command[0], path=env["PATH"])
    if program is None:
        raise LauncherError(f"There is no command {command[0]}.")
    os.execve(program, command, env)
