"""Wait for a fact instead of for time."""

from __future__ import annotations

import time
from threading import Event
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def until(fact: Callable[[], T], *, seconds: float = 20.0, pause_seconds: float = 0.005) -> T:
    """Call `fact` until it returns a true value, and return that. Fails the test after `seconds`."""
    end, pause = time.monotonic() + seconds, Event()
    while not (value := fact()):
        assert time.monotonic() < end, f"waited {seconds} s in vain for {fact}"
        pause.wait(pause_seconds)
    return value
