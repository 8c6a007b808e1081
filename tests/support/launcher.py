"""`run.py`, started for a test in an environment without servers, and what is left of it when it has ended."""

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
# Where .venv was not made by run.py, it would make it anew under our feet: then straight to what it hands over to.
COMMAND = [sys.executable, *(["run.py"] if run.is_ready() else ["-m", "devstack"])]


def eventually(is_true, seconds, what):
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def processes_marked(mark):
    """Every live process that has inherited our mark, whatever became of its parents."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("LAUNCHER_TEST") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def is_alive(process):
    """Whether this very process still runs."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def command_of(process):
    """The words that it was started with; none where it has ended meanwhile, as a database's helpers do all the time."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


class Launcher:
    """A `run.py` process of this test, in an environment without servers: it embeds its own."""

    def __init__(self, command, **env):
        self.mark = secrets.token_hex(8)
        ours = ("DATABASE_URL", "REDIS_URL", "PAYMENT_", "SECRET_KEY", "IDEMPOTENCY_", "SEMEL_", "PYTEST_")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self.env = clean | env | {"LAUNCHER_TEST": self.mark}
        self.popen = subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def has_said(self, words):
        """It has just said these words, and goes on."""
        said = []
        for line in self.popen.stdout:
            if words in line:
                return
            said.append(line)
        raise AssertionError(f"it never said {words!r}:\n{''.join(said)}")

    def last_words(self):
        """All that it says from here to its end. Not by `communicate`, which would lose what `has_said` has read ahead."""
        said = self.popen.stdout.read()
        self.popen.wait(timeout=STOP_SECONDS)
        return said

    def family(self):
        """Every process below it now, those that hide their environment included."""
        return psutil.Process(self.popen.pid).children(recursive=True)

    def scratch(self):
        """Its temporary folder, as its guardian was told."""
        commands = [command_of(one) for one in self.family()]
        [tag] = [command[-1] for command in commands if "devstack.cleanup_process" in command]
        return Path(tempfile.gettempdir()) / f"semel-{tag}"

    def leaves_nothing(self):
        self.popen.communicate(timeout=STOP_SECONDS)
        eventually(
            lambda: not processes_marked(self.mark), STOP_SECONDS, f"{processes_marked(self.mark)} are gone"
        )
        return self.popen.returncode


def exit_code_of(number):
    """What this signal makes the launcher's exit code."""
    return -number if number == signal.SIGKILL else 128 + number
