"""A process of the stack: how it is started, watched and told apart from any later one with its number."""

from __future__ import annotations

import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
LOG_TAIL_LINES = 12
# A start is told as boot time + ticks, and the boot time moves a little whenever the clock is set right.
CLOCK_SLACK_SECONDS = 1.0


@dataclass(frozen=True)
class Command:
    """What to run, and as whom."""

    name: str
    argv: list[str]
    env: dict[str, str]
    # The signal that ends it in good order.
    stop_signal: signal.Signals = signal.SIGTERM
    # More for Popen: user, group, cwd.
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Identity:
    """One process for ever: the kernel gives its number to another one day, but not with the same start."""

    name: str
    pid: int
    started: float
    stop_signal: int

    @property
    def is_alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        return self.find() is not None

    def find(self) -> psutil.Process | None:
        """The process, unless it has ended."""
        try:
            process = psutil.Process(self.pid)
            moved = abs(process.create_time() - self.started)
            if moved > CLOCK_SLACK_SECONDS or process.status() == psutil.STATUS_ZOMBIE:
                return None
        except psutil.NoSuchProcess:
            return None
        return process

    def send(self, number: int) -> None:
        """The signal is delivered, if there is still someone to take it."""
        if process := self.find():
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                return


@dataclass
class Running:
    """A started process of ours, its identity and its log."""

    command: Command
    popen: subprocess.Popen[bytes]
    identity: Identity
    log: Path
    # By the monotonic clock.
    began_at: float = field(default_factory=time.monotonic)

    @property
    def has_ended(self) -> bool:
        """Whether it ended; asking also takes its exit code from the kernel."""
        return self.popen.poll() is not None

    def last_lines(self) -> str:
        """The end of its log, for a reader who must know why."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join(f"    {line}" for line in lines)


def start(command: Command, log: Path) -> Running:
    """The process runs in a session of its own: the terminal's Ctrl-C reaches the launcher alone, which decides."""
    with log.open("ab") as output:
        popen = subprocess.Popen(
            command.argv,
            env=command.env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,  # what it writes is its owner's alone
            **{"cwd": ROOT, **command.options},
        )
    return Running(command, popen, identify(command.name, popen.pid, command.stop_signal), log)


def identify(name: str, pid: int, stop_signal: int = signal.SIGTERM) -> Identity:
    """The identity of a child that was just started: not yet reaped, so its number is still its own."""
    return Identity(name, pid, psutil.Process(pid).create_time(), int(stop_signal))
