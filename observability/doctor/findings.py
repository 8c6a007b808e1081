"""Findings are messages of Django's check framework: the first line is what was found, the second what it means.

The hint is what to do. A finding of level INFO reports that all is well, and has neither meaning nor hint.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import redis
from django.core.checks import ERROR, INFO, WARNING, CheckMessage
from django.db import Error as DatabaseError

from observability.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CLOCK_WARNING_SECONDS, _CLOCK_ERROR_SECONDS = 2.0, 30.0


def ok(check: str, found: str) -> CheckMessage:
    return CheckMessage(INFO, found, id=check)


def judge(
    check: str, found: str, *, error: bool = False, warning: bool = False, means: str, do: str
) -> CheckMessage:
    """Return an error (a promise is broken, or will be by the next fault), a warning, or else a finding that is ok."""
    if not (error or warning):
        return ok(check, found)
    return CheckMessage(ERROR if error else WARNING, f"{found}\n{means}", hint=do, id=check)


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
        means="The api checks run_at and deadlines by its own clock, the database applies them by its clock, and ticks expire "
        "by beat's: jobs may be refused or run late, and ticks may be dropped.",
        do="Run a time service (chrony, systemd-timesyncd) on every host.",
    )


def ask_server(server: str, variable: str, findings: Iterator[CheckMessage]) -> Iterator[CheckMessage]:
    """Return the findings. If the server fails, return those before, and the failure as one more."""
    try:
        yield from findings
    except (DatabaseError, redis.RedisError, OSError, ValueError) as failure:
        reason = Redactor()(str(failure).strip().partition("\n")[0])
        yield judge(
            f"{server}.reachable",
            f"{type(failure).__name__}: {reason}",
            error=True,
            means=f"The {server} did not answer every question within seconds. The other findings are complete answers.",
            do=f"Check that it runs, and that {variable} is its address, with the right password, from this host.",
        )
