"""What a check says: how bad, what it means, what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """How bad; the worst one is the exit code."""

    OK = 0
    WARNING = 1
    ERROR = 2

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True)
class Finding:
    """One line of the report. What is not ok says what it means and what to do."""

    check: str
    level: Level
    says: str
    means: str = ""
    do: str = ""


def ok(check: str, says: str) -> Finding:
    """All is well here."""
    return Finding(check, Level.OK, says)


def warning(check: str, says: str, *, means: str, do: str) -> Finding:
    """It works, and will one day not."""
    return Finding(check, Level.WARNING, says, means, do)


def error(check: str, says: str, *, means: str, do: str) -> Finding:
    """A promise is broken, or is not kept under the next fault."""
    return Finding(check, Level.ERROR, says, means, do)


def graded(
    check: str, value: float, says: str, *, warn_at: float, fail_at: float, means: str, do: str
) -> Finding:
    """By how much: ok below `warn_at`, an error from `fail_at` on."""
    if value < warn_at:
        return ok(check, says)
    return Finding(check, Level.ERROR if value >= fail_at else Level.WARNING, says, means, do)
