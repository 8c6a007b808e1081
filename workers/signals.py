"""What happened in a worker, for whoever counts it: sent robustly, so that a listener can break nothing."""

from __future__ import annotations

from typing import Final

from django.dispatch import Signal

# A message came, and there was nothing to claim: reason, see jobs.selectors.unclaimed_reason.
delivery_dropped: Final = Signal()
# An attempt is over, whatever came of it: operation, outcome (a class of workers.outcomes), seconds.
attempt_ended: Final = Signal()
# A fenced write of an attempt matched no row: the job is another's by now. Once an attempt.
write_refused: Final = Signal()
# A sweep, or a purge, has come to its end: counts, seconds.
swept: Final = Signal()
purged: Final = Signal()
