"""Fault points: named places at which a test makes a process die, freeze, fail or hang.

FAULT_POINT=after_commit:1:kill kills the first process that reaches `after_commit`. In production nothing is armed, and each
place costs one function call.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Final

from django.core.exceptions import ImproperlyConfigured

POINTS: Final = (
    # A request, in idempotency/ and broker/publisher.py
    "before_key",  # nothing is written
    "before_job",  # the key is reserved, uncommitted
    "before_commit",  # key, job and response are written, uncommitted
    "after_commit",  # committed, no hint published
    "before_answer",  # a hint is with the publisher, no response is sent
    # A job, in workers/ and config/patches/
    "before_claim",  # the message is delivered
    "after_claim",  # running, nothing done
    "before_effect",  # recorded as started, not sent
    "after_effect",  # sent and answered, not recorded
    "mid_step",  # a step's work is done, not recorded
    "after_record",  # the outcome of an effect or a step is recorded
    "before_artifact",  # the file is stored, its row is not written
    "before_settle",  # everything is recorded, the job is still running
    "before_ack",  # the job is settled, the message not acknowledged
    # A sweep, in workers/sweep.py
    "mid_sweep",  # some rows are changed or marked, nothing published
)


class Action(StrEnum):
    """What happens to the process that reaches the place."""

    KILL = "kill"  # SIGKILL
    STOP = "stop"  # SIGSTOP, until a test sends SIGCONT
    RAISE = "raise"  # an unexpected exception
    HANG = "hang"  # this thread waits for ever


class FaultPointReached(RuntimeError):  # noqa: N818 - an event, not an error of ours
    """The armed fault point was reached, with the action `raise`."""


# Fits into a pipe's buffer on every system.
_MAX_NTH: Final = 1_000

_on_reach: Callable[[str], None] | None = None


def reach(point: str) -> None:
    """Call the armed action or the watcher of this process, if a test set one. Otherwise do nothing."""
    if _on_reach is not None:
        _on_reach(point)


def arm(setting: str) -> None:
    """Arm `name:n:action` for this process and its forks, which count together. An empty setting disarms.

    Raises ImproperlyConfigured if a part of the setting is unknown.
    """
    global _on_reach  # noqa: PLW0603 - the one switch of this module
    _on_reach = _fault(setting) if setting else None
    if setting:
        _print(f"FAULT_POINT is armed: {setting}. This process will not live long.")


@contextmanager
def watch(notice: Callable[[str], None]) -> Iterator[None]:
    """Call `notice` at each fault point that this process reaches inside the block. `notice` may raise.

    Do not nest these blocks.
    """
    global _on_reach  # noqa: PLW0603 - the one switch of this module
    _on_reach = notice
    try:
        yield
    finally:
        _on_reach = None


def _fault(setting: str) -> Callable[[str], None]:
    point, _, rest = setting.partition(":")
    nth, _, action = rest.partition(":")
    if point not in POINTS or action not in list(Action) or not (nth.isdecimal() and 1 <= int(nth) <= _MAX_NTH):
        raise ImproperlyConfigured(
            f"FAULT_POINT must be <name>:<n>:<action>, not {setting!r}; names: {', '.join(POINTS)}; "
            f"n: 1 to {_MAX_NTH}; actions: {', '.join(Action)}."
        )
    # A counter that forked processes share without a lock: each reach takes one byte from the pipe, and the last byte fires.
    turns, fill = os.pipe()
    os.write(fill, b"." * (int(nth) - 1) + b"!")
    os.close(fill)

    def on_reach(reached: str) -> None:
        if reached == point and os.read(turns, 1) == b"!":
            _print(f"FAULT_POINT {point} is reached: {action}.")
            _act(Action(action))

    return on_reach


def _act(action: Action) -> None:
    # Signals go to this thread. Sent to the process, another thread could take them while this one continues.
    match action:
        case Action.KILL:
            signal.pthread_kill(threading.get_ident(), signal.SIGKILL)
        case Action.STOP:
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        case Action.RAISE:
            raise FaultPointReached
        case Action.HANG:
            threading.Event().wait()


def _print(line: str) -> None:
    # Write without a buffer: the process may be killed before it could flush one.
    os.write(2, f"{line}\n".encode())
