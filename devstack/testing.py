"""``run.py test``: run the test suite on real servers."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

import psutil

from devstack.environment import base_environment, forget_outside_servers, outside_servers, settings_environment
from devstack.folder import Folder
from devstack.processes import ROOT
from devstack.stack import embed_servers
from devstack.stopping import Interrupted, Interrupts
from devstack.supervisor import Supervisor

# How long pytest may take for its report after a signal.
REPORT_SECONDS = 5.0
# Tests of one file share what they start. Files keep their order, so that small ones come last and no long one runs alone.
PARALLEL = ("-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder")


def test(pytest: Sequence[str]) -> int:
    """Run the suite on embedded servers, or on the user's, and return pytest's exit code."""
    outside = outside_servers()
    forget_outside_servers()  # no test may charge a real card
    with Interrupts() as interrupts:
        try:
            with Supervisor(interrupts) as supervisor:
                folder = Folder(supervisor.scratch / "data")
                base = base_environment(supervisor.tag)
                database_url, redis_url = outside or embed_servers(supervisor, folder, base, is_durable=False)
                env = settings_environment(base, folder, database_url=database_url, redis_url=redis_url)
                return _run(supervisor, arguments(pytest), env)
        except Interrupted as interrupted:
            return interrupted.exit_code


def arguments(given: Sequence[str]) -> list[str]:
    """Return the user's arguments for pytest, with parallel ones unless they set the number of processes."""
    has_number = any(word.startswith(("-n", "--numprocesses")) for word in given)
    return [*([] if has_number else PARALLEL), *given]


def _run(supervisor: Supervisor, words: Sequence[str], env: dict[str, str]) -> int:
    """Run pytest in this terminal, so that --pdb works, and return its exit code."""
    pytest = subprocess.Popen([sys.executable, "-m", "pytest", *words], env=env, cwd=ROOT)
    supervisor.watch("pytest", pytest.pid)
    try:
        return pytest.wait()
    except Interrupted as interrupted:
        # Ctrl-C at a terminal has already reached it; a second signal would cut its report short.
        if interrupted.number != signal.SIGINT or not sys.stdin.isatty():
            _interrupt(psutil.Process(pytest.pid))
        with suppress(subprocess.TimeoutExpired):
            pytest.wait(REPORT_SECONDS)
        raise


def _interrupt(pytest: psutil.Process) -> None:
    """Interrupt pytest and its parallel workers, so that they report and end."""
    with suppress(psutil.NoSuchProcess):
        for process in [pytest, *pytest.children(recursive=True)]:
            process.send_signal(signal.SIGINT)
