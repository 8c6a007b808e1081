"""Findings are messages of Django's check framework: the first line is what was found, the second what it means.

The hint is what to do. Both come from advice.toml. A finding of level INFO reports that all is well, without either.
"""

import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import redis
from django.core.checks import ERROR, INFO, WARNING, CheckMessage
from django.db import Error as DatabaseError

from observability.redaction import Redactor

ADVICE = tomllib.loads((Path(__file__).parent / "advice.toml").read_text(encoding="utf-8"))
_CLOCK_WARNING_SECONDS, _CLOCK_ERROR_SECONDS = 2.0, 30.0


def judge(check: str, found: str, *, error: bool = False, warning: bool = False, advice: str = "") -> CheckMessage:
    """Return an error (a promise is broken, or will be by the next fault), a warning, or else a finding that is ok."""
    if not (error or warning):
        return CheckMessage(INFO, found, id=check)
    text = ADVICE[advice or check]
    return CheckMessage(ERROR if error else WARNING, f"{found}\n{text['means']}", hint=text["do"], id=check)


def compare_clock(check: str, read_clock: Callable[[], float]) -> CheckMessage:
    """Compare a server's clock with this process's. The time that the answer took is counted as uncertainty."""
    before = time.time()
    theirs = read_clock()
    after = time.time()
    skew = theirs - (before + after) / 2
    certain = abs(skew) - (after - before) / 2
    return judge(
        check,
        f"The clock is {abs(skew):.3f} s {'ahead of' if skew > 0 else 'behind'} this process's.",
        error=certain >= _CLOCK_ERROR_SECONDS,
        warning=certain >= _CLOCK_WARNING_SECONDS,
        advice="clock",
    )


def ask_server(check: str, findings: Iterator[CheckMessage]) -> Iterator[CheckMessage]:
    """Return the findings. If the server fails, return those before, and the failure as one more."""
    try:
        yield from findings
    except (DatabaseError, redis.RedisError, OSError, ValueError) as failure:
        reason = Redactor()(str(failure).strip().partition("\n")[0])
        yield judge(check, f"{type(failure).__name__}: {reason}", error=True)
