"""How an attempt ended, as a value. `executor.settle` is the one place that reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta


@dataclass(frozen=True)
class Succeeded:
    """The operation returned; `result` is encoded."""

    result: bytes


@dataclass(frozen=True)
class RetryAt:
    """The attempt failed, and another one may succeed after `delay`."""

    delay: timedelta
    detail: str
    cause: str


@dataclass(frozen=True)
class Postponed:
    """Nothing was tried that counts: the same again after `delay`, at no charge."""

    delay: timedelta
    detail: str


@dataclass(frozen=True)
class Failed:
    """The operation cannot succeed."""

    detail: str
    cause: str


@dataclass(frozen=True)
class Unknown:
    """An effect began, and nobody can tell whether it happened."""

    detail: str


@dataclass(frozen=True)
class Canceled:
    """The client's wish was seen while nothing had been done."""


@dataclass(frozen=True)
class Lost:
    """The lease is gone: whatever this attempt would write belongs to another one now."""


Outcome = Succeeded | RetryAt | Postponed | Failed | Unknown | Canceled | Lost
