"""Pauses: a paused job cannot be claimed. The sweep holds it (queries/held.py), so that claims do not meet it.

A pause in force has no `resumed_at`. A resumed pause stays until each held job was looked at once.
"""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from foundation.statements import fetch_all, fetch_one

# True for a paused `job`. The table has few rows, and nearly always none.
PAUSED = """EXISTS (SELECT FROM job_pause AS pause WHERE pause.resumed_at IS NULL
                AND (pause.operation IS NULL OR pause.operation = job.operation)
                AND (pause.tenant_id IS NULL OR pause.tenant_id = job.tenant_id))"""
# Considers only the pauses that this transaction has locked.
PAUSED_BY_LOCKED = PAUSED.replace("WHERE", "WHERE pause.id = ANY(%(locked)s) AND", 1)

# FOR SHARE: a resume waits for the transactions that hold jobs because of this pause, and later transactions do not use the
# pause. So no job is held at an id that the release has already passed.
_LOCK = "SELECT id FROM job_pause WHERE resumed_at IS NULL FOR SHARE"

_RESUMED = """
    SELECT id, released_to FROM job_pause WHERE resumed_at IS NOT NULL ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"""

_COUNT_RUNNING = """
    SELECT pause.id, (SELECT count(*) FROM job WHERE job.state = 'running'
        AND (pause.operation IS NULL OR pause.operation = job.operation)
        AND (pause.tenant_id IS NULL OR pause.tenant_id = job.tenant_id))
    FROM job_pause AS pause WHERE pause.id = ANY(%(ids)s)"""


@dataclass(frozen=True, slots=True)
class ResumedPause:
    """A pause that was resumed, and the last held job that was looked at since then. Fields in the order of the columns."""

    id: int
    released_to: UUID


def lock_pauses() -> list[int]:
    """Lock the pauses in force against a resume until this transaction ends. Lock order: before any job."""
    return [pause_id for (pause_id,) in fetch_all(_LOCK)]


def lock_resumed_pause() -> ResumedPause | None:
    """Lock a resumed pause until this transaction ends; None if there is none, or another sweeper works on it."""
    row = fetch_one(_RESUMED)
    return None if row is None else ResumedPause(*row)


def count_running(pause_ids: Collection[int]) -> dict[int, int]:
    """Count the attempts that still run under each of these pauses. Reads the running jobs once per pause (job_running)."""
    return dict(fetch_all(_COUNT_RUNNING, ids=list(pause_ids)))
