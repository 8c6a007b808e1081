"""A snapshot that is held while jobs run: rows that have ended stay visible to it, and no vacuum can remove them."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

from tests.bench.parts.finish import watch_drain

if TYPE_CHECKING:
    from tests.bench.contestants.semel import Semel
    from tests.bench.scale import Scale

# A few connections keep the workers busy without a growing backlog.
CONNECTIONS = 4


def measure_snapshot(contestant: Semel, scale: Scale) -> dict[str, float]:
    """Return the rate of finished jobs before the snapshot, and after it was held for some minutes under load."""
    before = _finish_rate(contestant, scale.seconds)
    with closing(contestant.host.connect(contestant.database_url)) as holder:
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT count(*) FROM job")
        end = time.monotonic() + 60 * scale.minutes
        while time.monotonic() < end:
            contestant.send(contestant.new_keys(), min(scale.seconds, end - time.monotonic()), connections=CONNECTIONS)
            contestant.wait_for_finished(contestant.jobs())
        after = _finish_rate(contestant, scale.seconds)
    return {"finished_before_snapshot_per_second": before, "finished_during_snapshot_ratio": after / before}


def _finish_rate(contestant: Semel, seconds: float) -> float:
    jobs = contestant.make_backlog("short", seconds)
    contestant.start_workers()
    rate = watch_drain(contestant, jobs, seconds).rate
    contestant.wait_for_finished(jobs)
    return rate
