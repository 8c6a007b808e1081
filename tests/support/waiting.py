"""Waiting for a fact, for as long as a slow machine may need and not a moment longer."""

from __future__ import annotations

import time
from threading import Event
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def until(fact: Callable[[], T], *, seconds: float = 20.0, pause_seconds: float = 0.005) -> T:
    """The first true value that `fact` gives. Fails the test where none comes in time."""
    end, pause = time.monotonic() + seconds, Event()
    while not (value := fact()):
        assert time.monotonic() < end, f"waited {seconds} s in vain for {fact}"
        pause.wait(pause_seconds)
    return value
