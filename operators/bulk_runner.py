"""What operators began for many jobs at once is carried out, slice by slice."""

from __future__ import annotations

from dataclasses import asdict

import structlog

from operators.bulk_actions import Counts, steps
from workers.batches import take_turns

log = structlog.get_logger(__name__)


def run_once(*, seconds: float | None = None) -> Counts:
    """All that was begun is done, or `seconds` are over; None: as long as it takes. The next run goes on behind the last job."""
    counts = sum(take_turns(steps(), seconds=seconds), start=Counts())
    if any(asdict(counts).values()):
        log.info("bulk", **asdict(counts))
    return counts
