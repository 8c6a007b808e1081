"""Bytes of a stored key and of a job with its history, indexes included."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.bench.contestants.semel import Semel
    from tests.bench.scale import Scale

# Enough that the first pages of tables and indexes do not count.
JOBS = 5_000
_SIZE = """
    SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class AS c
    WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND c.relname ~ %s"""
KEYS, JOBS_AND_HISTORY = "^idempotency_record", "^job"


def measure_storage(contestant: Semel, _scale: Scale) -> dict[str, float]:
    """Return the growth of the tables per accepted and finished job. Nothing is vacuumed by hand."""
    keys, jobs = _size(contestant, KEYS), _size(contestant, JOBS_AND_HISTORY)
    contestant.wait_for_finished(contestant.send_count(JOBS))
    return {
        "bytes_per_key": (_size(contestant, KEYS) - keys) / JOBS,
        "bytes_per_job": (_size(contestant, JOBS_AND_HISTORY) - jobs) / JOBS,
    }


def _size(contestant: Semel, tables: str) -> int:
    [size] = contestant.database.execute(_SIZE, [tables]).fetchone() or [0]
    return int(size)
