"""The supervisor of the launcher's processes: it watches every process that it starts, and stops all of them at its end."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

from devstack.cleanup_process import CleanupProcess, remove
from devstack.console import LauncherError
from devstack.processes import Command, Identity, Running, identify, start
from devstack.stopping import stop_stack

if TYPE_CHECKING:
    from devstack.stopping import Interrupts

POLL_SECONDS = 0.1
# Far more than a slow machine needs: longer is a hang.
START_SECONDS = 90.0
# Seconds before a process that ended is started again; doubled each time that it ends soon after its start.
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
SHORT_RUN_SECONDS = 10.0
# A clean end takes a second: longer is a hang.
END_SECONDS = 30.0


class Supervisor:
    """Starts, watches, restarts and stops processes; a context manager."""

    def __init__(self, interrupts: Interrupts, *, inherits: Iterable[int] = ()) -> None:
        """Start the cleanup process and create ``scratch``, a folder that is removed with the stack."""
        self._interrupts = interrupts
        self._cleanup = CleanupProcess(inherits=inherits)
        self._pauses: dict[str, float] = {}
        self._restart_at: dict[str, float] = {}
        self._watched: list[Identity] = []
        self._leftovers: list[Path] = []
        self.tag = self._cleanup.tag
        self.running: dict[str, Running] = {}
        # A short path: macOS limits the path of a socket to 104 characters.
        self.scratch = Path(tempfile.gettempdir()) / f"semel-{self.tag}"
        self.remove_at_end(self.scratch)
        # Other users can traverse it but not list it: as root, PostgreSQL runs as another user.
        self.scratch.mkdir(mode=0o711)
        self.logs = self.scratch

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop every process and remove every temporary file."""
        self._interrupts.begin_stopping()
        stop_stack(self._watched, self.tag, is_urgent=self._interrupts.is_urgent)
        for one in self.running.values():
            one.popen.wait()
        for path in self._leftovers:
            remove(path)
        self._cleanup.end()

    def remove_at_end(self, path: Path) -> None:
        """Remove this file or folder with the stack, even if the launcher is killed."""
        self._leftovers.append(path)
        self._cleanup.remove_at_end(path)

    def start(self, command: Command) -> Running:
        """Start the process and watch it."""
        one = start(command, self.logs / f"{command.name}.log")
        self._watched.append(one.identity)
        self._cleanup.watch(one.identity)
        self.running[command.name] = one
        return one

    def run(self, command: Command) -> None:
        """Run the command to its end. Raises LauncherError with the end of its log if it fails."""
        one = self.start(command)
        while not one.has_ended:
            time.sleep(0.02)
        del self.running[command.name]
        if one.popen.returncode != 0:
            raise self._failure(one, "failed")

    def end(self, name: str, number: int) -> Command:
        """End the process and its children with the signal. Return its command, to start it again.

        Until its leader is reaped, the kernel does not reuse the process group's number. If a signal interrupts this method,
        the process is still among those that are stopped at the end.
        """
        one = self.running[name]
        if one.has_ended:
            raise self._failure(one, "had ended by itself")
        os.killpg(one.identity.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            one.popen.wait(END_SECONDS)
        if not one.has_ended:
            raise self._failure(one, f"did not end within {END_SECONDS:.0f} s")
        del self.running[name]
        return one.command

    def wait_for(self, checks: Mapping[str, Callable[[], bool]], *, seconds: float = START_SECONDS) -> None:
        """Wait until each named process passes its check. Raises LauncherError if one ends or takes too long."""
        pending = dict(checks)
        end = time.monotonic() + seconds
        while pending:
            for name, is_ready in list(pending.items()):
                one = self.running[name]
                if one.has_ended:
                    raise self._failure(one, "ended during its start")
                if is_ready():
                    del pending[name]
                elif time.monotonic() > end:
                    raise self._failure(one, f"was not ready after {seconds:.0f} s")
            if pending:
                time.sleep(POLL_SECONDS)

    def watch(self, name: str, pid: int) -> None:
        """Also stop this child, which was started without `start`."""
        identity = identify(name, pid)
        self._watched.append(identity)
        self._cleanup.watch(identity)

    def restart_ended(self) -> list[tuple[str, int]]:
        """Restart processes that ended, with growing pauses if one keeps ending. Return names and exit codes."""
        restarted = []
        now = time.monotonic()
        for name, one in list(self.running.items()):
            if not one.has_ended:
                continue
            pause = self._pauses.get(name, FIRST_PAUSE_SECONDS)
            if now < self._restart_at.setdefault(name, now + pause):
                continue
            del self._restart_at[name]
            is_flapping = now - one.started_at < SHORT_RUN_SECONDS + pause
            self._pauses[name] = min(pause * 2, LONGEST_PAUSE_SECONDS) if is_flapping else FIRST_PAUSE_SECONDS
            self.start(one.command)
            restarted.append((name, one.popen.returncode))
        return restarted

    def check_cleanup_process(self) -> None:
        """Raise LauncherError if the cleanup process has ended: without it, the stack could be left behind."""
        if not self._cleanup.is_alive:
            raise LauncherError("The cleanup process was killed. Stopping, because the stack could be left behind.")

    def _failure(self, one: Running, what: str) -> LauncherError:
        """Return the error with the end of the process's log, and the log's path if it will not be removed."""
        place = "" if self.scratch in one.log.parents else f" ({one.log})"
        return LauncherError(f"{one.command.name} {what}; the end of its log{place}:\n{one.last_lines()}")
