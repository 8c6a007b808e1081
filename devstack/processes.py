"""A process of the stack: how it is started, watched and distinguished from a later process with the same pid."""

import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
LOG_TAIL_LINES = 12
# A start time is boot time plus ticks, and the boot time moves a little when the clock is adjusted.
CLOCK_SLACK_SECONDS = 1.0


@dataclass(frozen=True)
class Command:
    """A command line with its environment."""

    name: str
    argv: list[str]
    env: dict[str, str]
    # The signal that ends it cleanly.
    stop_signal: signal.Signals = signal.SIGTERM
    # More arguments for Popen, such as user, group and cwd.
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Identity:
    """One process, identified by pid and start time: the kernel reuses a pid, but not with the same start time."""

    name: str
    pid: int
    started: float
    stop_signal: int

    @property
    def is_alive(self) -> bool:
        """Return whether the process with this start time is running. A zombie does not count."""
        return self.find() is not None

    def find(self) -> psutil.Process | None:
        """Return the process, or None if it has ended."""
        try:
            process = psutil.Process(self.pid)
            moved = abs(process.create_time() - self.started)
            if moved > CLOCK_SLACK_SECONDS or process.status() == psutil.STATUS_ZOMBIE:
                return None
        except psutil.NoSuchProcess:
            return None
        return process

    def send(self, number: int) -> None:
        """Send the signal if the process still runs."""
        if process := self.find():
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                return


@dataclass
class Running:
    """A process that this one has started."""

    command: Command
    popen: subprocess.Popen[bytes]
    identity: Identity
    log: Path
    started_at: float = field(default_factory=time.monotonic)  # by the monotonic clock

    @property
    def has_ended(self) -> bool:
        """True once it has ended; also collects its exit code from the kernel."""
        return self.popen.poll() is not None

    def last_lines(self) -> str:
        """Return the end of its log, for an error message."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join(f"    {line}" for line in lines)


def start(command: Command, log: Path) -> Running:
    """Start the process in a session of its own: the terminal's Ctrl-C reaches only the launcher."""
    with log.open("ab") as output:
        popen = subprocess.Popen(
            command.argv,
            env=command.env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,  # only its owner can read what it writes
            **{"cwd": ROOT, **command.options},
        )
    return Running(command, popen, identify(command.name, popen.pid, command.stop_signal), log)


def identify(name: str, pid: int, stop_signal: int = signal.SIGTERM) -> Identity:
    """Return the identity of a child that was just started. It is not yet reaped, so its pid cannot have been reused."""
    return Identity(name, pid, psutil.Process(pid).create_time(), int(stop_signal))
