"""``run.py test``: the test suite on real servers."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

from devstack.environment import (
    OUTSIDE,
    base_environment,
    ours_alone,
    outside_servers,
    settings_environment,
)
from devstack.folder import Folder
from devstack.interrupts import Interrupted, Interrupts
from devstack.processes import ROOT
from devstack.stack import Servers, embed_servers
from devstack.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Sequence

# Seconds that pytest gets for its own report once a signal came.
REPORT_SECONDS = 5.0
# A file's tests share what they start. In the order of folders: small files come last, and no long one is waited for alone.
PARALLEL = ("-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder")


def test(pytest: Sequence[str]) -> int:
    """The suite has run on servers of its own (or the user's); pytest's exit code."""
    outside = outside_servers()
    ours_alone(OUTSIDE)  # no test may charge a real card
    with Interrupts() as interrupts:
        try:
            with Supervisor(interrupts) as supervisor:
                folder = Folder(supervisor.scratch / "data")
                base = base_environment(supervisor.tag)
                servers = (
                    Servers(*outside)
                    if outside
                    else embed_servers(supervisor, folder, base, is_durable=False)
                )
                env = settings_environment(
                    base, folder, database_url=servers.database_url, redis_url=servers.redis_url
                )
                return _run(supervisor, arguments(pytest), env)
        except Interrupted as interrupted:
            return interrupted.exit_code


def arguments(given: Sequence[str]) -> list[str]:
    """The user's arguments for pytest, in parallel unless they say how many."""
    is_told = any(word.startswith(("-n", "--numprocesses")) for word in given)
    return [*([] if is_told else PARALLEL), *given]


def _run(supervisor: Supervisor, words: Sequence[str], env: dict[str, str]) -> int:
    """Pytest has ended; its exit code. It shares our terminal, so that --pdb can be typed into."""
    pytest = subprocess.Popen([sys.executable, "-m", "pytest", *words], env=env, cwd=ROOT)
    supervisor.watch("pytest", pytest.pid)
    try:
        return pytest.wait()
    except Interrupted as interrupted:
        # Ctrl-C at a terminal has reached it already; a second one would cut its report short.
        if interrupted.number != signal.SIGINT or not sys.stdin.isatty():
            _interrupt(psutil.Process(pytest.pid))
        with suppress(subprocess.TimeoutExpired):
            pytest.wait(REPORT_SECONDS)
        raise


def _interrupt(pytest: psutil.Process) -> None:
    """It and its parallel workers know that it is time to report and end."""
    with suppress(psutil.NoSuchProcess):
        for process in [pytest, *pytest.children(recursive=True)]:
            process.send_signal(signal.SIGINT)
