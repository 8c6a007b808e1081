"""How an attempt ended, as a value: `executor.perform` returns one, and `executor.settle` writes it."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Succeeded:
    """The operation returned this (encoded) result."""

    result: bytes


@dataclass(frozen=True)
class RetryAt:
    """The attempt failed, and another one may succeed after `delay`."""

    delay: timedelta
    detail: str
    cause: str


@dataclass(frozen=True)
class Postponed:
    """Run again after `delay`, without charging this attempt."""

    delay: timedelta
    detail: str


@dataclass(frozen=True)
class Failed:
    """The operation cannot succeed."""

    detail: str
    cause: str


@dataclass(frozen=True)
class Unknown:
    """An effect began, and its outcome cannot be learned."""

    detail: str


@dataclass(frozen=True)
class Canceled:
    """The cancel request was seen while no effect was done, or all done effects are undone."""


@dataclass(frozen=True)
class Lost:
    """The lease is lost: another attempt may be running, and this one writes nothing more."""


Outcome = Succeeded | RetryAt | Postponed | Failed | Unknown | Canceled | Lost
