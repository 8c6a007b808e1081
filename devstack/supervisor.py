"""The launcher's hold on its processes: none is started unwatched, and none outlives it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from devstack.cleanup_process import Guardian, remove
from devstack.errors import LauncherError
from devstack.processes import Command, Identity, Running, identify, start
from devstack.stopping import stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from devstack.interrupts import Interrupts

POLL_SECONDS = 0.1
# Far beyond what a slow machine needs; a hang is told from slowness some day.
START_SECONDS = 90.0
# Seconds before a process that ended is started again; doubled for each short life in a row.
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
SHORT_LIFE_SECONDS = 10.0
# What is asked to end in good order does so within a second; beyond this it hangs.
END_SECONDS = 30.0


class Supervisor:
    """Starts, watches, restarts and stops; use as a context manager."""

    def __init__(self, interrupts: Interrupts, *, inherits: Iterable[int] = ()) -> None:
        """The guardian runs; ``scratch`` is a folder that vanishes with the stack."""
        self._interrupts = interrupts
        self._guardian = Guardian(inherits=inherits)
        self._pauses: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._watched: list[Identity] = []
        self._leftovers: list[Path] = []
        self.tag = self._guardian.tag
        self.running: dict[str, Running] = {}
        # Short, since a socket's path may have 104 characters on macOS.
        self.scratch = Path(tempfile.gettempdir()) / f"semel-{self.tag}"
        self.remove_at_end(self.scratch)
        # Others may pass through it and not list it: as root, PostgreSQL runs as somebody else.
        self.scratch.mkdir(mode=0o711)
        self.logs = self.scratch

    def __enter__(self) -> Self:
        """Ready to start processes."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing of the stack is left: no process, no port, no temporary file."""
        self._interrupts.stopping()
        stop(self._watched, self.tag, is_urgent=self._interrupts.is_urgent)
        for one in self.running.values():
            one.popen.wait()
        for path in self._leftovers:
            remove(path)
        self._guardian.dismiss()

    def remove_at_end(self, path: Path) -> None:
        """This file or folder goes with the stack, whatever becomes of the launcher."""
        self._leftovers.append(path)
        self._guardian.remove_at_end(path)

    def start(self, command: Command) -> Running:
        """The process runs, and will be stopped."""
        one = start(command, self.logs / f"{command.name}.log")
        self._watched.append(one.identity)
        self._guardian.watch(one.identity)
        self.running[command.name] = one
        return one

    def run(self, command: Command) -> None:
        """The command has ended well; LauncherError with its last words if not."""
        one = self.start(command)
        while not one.has_ended:
            time.sleep(0.02)
        del self.running[command.name]
        if one.popen.returncode != 0:
            raise self._failure(one, "failed")

    def end(self, name: str, number: int) -> Command:
        """The signal has ended the process and reached its children too; how to start it again.

        The group is still its own: until we have waited for its leader, the kernel gives that number to nobody else. A signal
        to us in the middle of this leaves the process among those that are stopped at the end.
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
        """Each named process has passed its check; LauncherError with its last words if it ended or took too long."""
        pending = dict(checks)
        end = time.monotonic() + seconds
        while pending:
            for name, is_ready in list(pending.items()):
                one = self.running[name]
                if one.has_ended:
                    raise self._failure(one, "ended as it started")
                if is_ready():
                    del pending[name]
                elif time.monotonic() > end:
                    raise self._failure(one, f"was not ready after {seconds:.0f} s")
            if pending:
                time.sleep(POLL_SECONDS)

    def watch(self, name: str, pid: int) -> None:
        """A child that was started elsewhere will be stopped too."""
        identity = identify(name, pid)
        self._watched.append(identity)
        self._guardian.watch(identity)

    def revive(self) -> list[tuple[str, int]]:
        """What ended is started again, ever later if it keeps ending; names and exit codes of those started now."""
        revived = []
        now = time.monotonic()
        for name, one in list(self.running.items()):
            if not one.has_ended:
                continue
            pause = self._pauses.get(name, FIRST_PAUSE_SECONDS)
            if now < self._due.setdefault(name, now + pause):
                continue
            del self._due[name]
            is_flapping = now - one.began_at < SHORT_LIFE_SECONDS + pause
            self._pauses[name] = min(pause * 2, LONGEST_PAUSE_SECONDS) if is_flapping else FIRST_PAUSE_SECONDS
            self.start(one.command)
            revived.append((name, one.popen.returncode))
        return revived

    def check_guardian(self) -> None:
        """Someone still watches; LauncherError if not: an unwatched stack could be left behind."""
        if not self._guardian.is_alive:
            raise LauncherError(
                "The guardian process was killed; stopping, since nobody would clean up after us."
            )

    def _failure(self, one: Running, what: str) -> LauncherError:
        """What went wrong, with the process's last words; its log is named if it stays."""
        place = "" if self.scratch in one.log.parents else f" ({one.log})"
        return LauncherError(f"{one.command.name} {what}; the end of its log{place}:\n{one.last_lines()}")
