"""How far a server's clock is from this process's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from observability.doctor.finding import Finding, graded

if TYPE_CHECKING:
    from collections.abc import Callable

_WARN_SECONDS, _FAIL_SECONDS = 2.0, 30.0


def compare_clock(check: str, ask: Callable[[], float]) -> Finding:
    """By one question; half of the time that it took is the answer's age, and all of it the doubt."""
    before = time.time()
    theirs = ask()
    after = time.time()
    skew = theirs - (before + after) / 2
    surely = max(0.0, abs(skew) - (after - before) / 2)
    return graded(
        check,
        surely,
        f"The clock is {abs(skew):.3f} s {'ahead of' if skew > 0 else 'behind'} this process's.",
        warn_at=_WARN_SECONDS,
        fail_at=_FAIL_SECONDS,
        means="Deadlines and run_at are judged by the api's clock and obeyed by the database's; ticks expire by beat's. "
        "Jobs may be refused or run late, and ticks dropped.",
        do="Run a time service (chrony, systemd-timesyncd) on every host.",
    )
