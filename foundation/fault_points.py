"""Named places at which a test has a process die, freeze, fail or hang: CRASHPOINT=after_commit:1:kill.

In production nothing is armed, and each place costs one call that finds so.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NoReturn

from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POINTS: Final = (
    # A request's way (idempotency/accept.py, idempotency/http.py, jobs/transitions.py)
    "before_key",  # nothing is written
    "before_job",  # the key is reserved, uncommitted
    "before_commit",  # key, job and answer are written, uncommitted
    "after_commit",  # committed, not published
    "before_answer",  # published, the client has heard nothing
    # A job's way (workers/executor.py, workers/effects.py, workers/artifacts.py, workers/running_job.py, config/celery.py)
    "before_claim",  # delivered
    "after_claim",  # running, nothing done
    "before_effect",  # recorded as started, not sent
    "after_effect",  # done, not recorded
    "mid_step",  # a step's work is done, not recorded
    "after_record",  # what became of an effect or a step is recorded
    "before_artifact",  # its file is stored, no row says so
    "before_settle",  # recorded, the job still running
    "before_ack",  # ended, the message not acknowledged
    # The sweeper's (workers/sweeper.py)
    "mid_sweep",  # rows changed or marked, not all of them, not published
)


class Action(StrEnum):
    """What happens to the process that reaches the place."""

    KILL = "kill"  # gone, as by the kernel
    STOP = "stop"  # frozen until somebody continues it
    RAISE = "raise"  # an exception that nobody expects
    HANG = "hang"  # this thread goes no further


class CrashpointReached(RuntimeError):  # noqa: N818 - what happened, not what is wrong
    """The place was told to raise."""


# What fits into a pipe at once, everywhere.
_LAST_TURN: Final = 1_000


class _Armed:
    """One place, and what happens the nth time that it is reached."""

    def __init__(self, point: str, nth: int, action: Action) -> None:
        self._point = point
        self._action = action
        # A counter that forked processes share without a lock: each who comes by takes one byte, and the last byte fires.
        self._turns, fill = os.pipe()
        os.set_blocking(self._turns, False)
        os.write(fill, b"." * (nth - 1) + b"!")
        os.close(fill)

    def reach(self, point: str) -> None:
        if point == self._point and os.read(self._turns, 1) == b"!":
            _say(f"CRASHPOINT {point} is reached: {self._action}.")
            _ACTIONS[self._action]()


class _Watched:
    """Somebody in this process is told of each place that is reached."""

    def __init__(self, notice: Callable[[str], None]) -> None:
        self.reach = notice


_armed: _Armed | _Watched | None = None


def reach(point: str) -> None:
    """Nothing, unless this place was armed and this is its turn."""
    if _armed is not None:
        _armed.reach(point)


def arm(told: str) -> None:
    """From now on this process and those forked from it, counted together, meet what `name:n:action` says; empty: nothing.

    Raises ImproperlyConfigured where a part of it is not known.
    """
    global _armed  # noqa: PLW0603 - the one switch of this module
    _armed = _parse(told) if told else None
    if _armed is not None:
        _say(f"CRASHPOINT is armed: {told}. This process will not live long.")


@contextmanager
def watch(notice: Callable[[str], None]) -> Iterator[None]:
    """While the block runs, each place that this process reaches is told to `notice`, which may raise there. Not to be nested."""
    global _armed  # noqa: PLW0603 - the one switch of this module
    _armed = _Watched(notice)
    try:
        yield
    finally:
        _armed = None


def _parse(told: str) -> _Armed:
    point, _, rest = told.partition(":")
    nth, _, action = rest.partition(":")
    if (
        point not in POINTS
        or not nth.isdecimal()
        or not 1 <= int(nth) <= _LAST_TURN
        or action not in list(Action)
    ):
        raise ImproperlyConfigured(
            f"CRASHPOINT must be <name>:<n>:<action>, not {told!r}; names: {', '.join(POINTS)}; "
            f"n: 1 to {_LAST_TURN}; actions: {', '.join(Action)}."
        )
    return _Armed(point, int(nth), Action(action))


def _say(line: str) -> None:
    # At once and past every buffer: the process may not come to write another.
    os.write(2, f"{line}\n".encode())


def _kill() -> None:
    _signal(signal.SIGKILL)


def _stop() -> None:
    _signal(signal.SIGSTOP)


def _signal(number: signal.Signals) -> None:
    # To this thread: sent to the process, it might be taken by another one, while this one goes on and does the next thing.
    signal.pthread_kill(threading.get_ident(), number)


def _raise() -> NoReturn:
    raise CrashpointReached


def _hang() -> None:
    threading.Event().wait()


_ACTIONS: Final = {Action.KILL: _kill, Action.STOP: _stop, Action.RAISE: _raise, Action.HANG: _hang}
