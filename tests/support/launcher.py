"""Starts `run.py` for a test in an environment without servers, and checks what is left after its end."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

import run

ROOT = Path(__file__).resolve().parents[2]
STOP_SECONDS = 60
# If run.py did not create this .venv, it would create it again during the tests: then start what it hands over to.
COMMAND = [sys.executable, *(["run.py"] if run.is_ready() else ["-m", "devstack"])]

# What makes a start cheaper: one process of the api.
CHEAP = {"API_WORKERS": "1"}


def eventually(is_true, seconds, what):
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def processes_marked(mark):
    """Return every live process that inherited the mark, even if its parents have ended."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("LAUNCHER_TEST") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def is_alive(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def command_of(process):
    """Return its command line; empty if it has just ended, as PostgreSQL's helper processes often do."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


class Launcher:
    """A `run.py` process in an environment without servers, so that it embeds its own."""

    def __init__(self, command, **env):
        self.mark = secrets.token_hex(8)
        ours = ("DATABASE_URL", "REDIS_URL", "PAYMENT_", "SECRET_KEY", "IDEMPOTENCY_", "SEMEL_", "PYTEST_")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self.env = clean | CHEAP | env | {"LAUNCHER_TEST": self.mark}
        self.popen = subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait_for_output(self, text):
        """Read its output up to the line that contains the text."""
        lines = []
        for line in self.popen.stdout:
            if text in line:
                return
            lines.append(line)
        raise AssertionError(f"its output has no {text!r}:\n{''.join(lines)}")

    def remaining_output(self):
        """Return its output up to its end. `communicate` would lose what `wait_for_output` has read ahead."""
        output = self.popen.stdout.read()
        self.popen.wait(timeout=STOP_SECONDS)
        return output

    def descendants(self):
        """Return every process below it now, including those that overwrite their environment."""
        return psutil.Process(self.popen.pid).children(recursive=True)

    def scratch(self):
        """Return its temporary folder, from the command line of its cleanup process."""
        commands = [command_of(one) for one in self.descendants()]
        [tag] = [command[-1] for command in commands if "devstack.cleanup_process" in command]
        return Path(tempfile.gettempdir()) / f"semel-{tag}"

    def leaves_nothing(self):
        """Wait until it and all processes that it started have ended; return its exit code."""
        self.popen.communicate(timeout=STOP_SECONDS)
        eventually(lambda: not processes_marked(self.mark), STOP_SECONDS, f"{processes_marked(self.mark)} are gone")
        return self.popen.returncode


def exit_code_of(number):
    """Return the launcher's exit code after this signal."""
    return -number if number == signal.SIGKILL else 128 + number
