"""Pauses: a paused job cannot be claimed. The sweep parks it, so that no useless hints are published.

A pause in force has no `resumed_at`. The sweeper parks each queued job that it finds due and paused: `next_publish_at` becomes
PARKED, so that later sweeps skip it. A resumed pause stays until all parked jobs that nothing else pauses have been made due.
"""

from collections.abc import Collection
from dataclasses import dataclass

from django.db import transaction

from foundation.statements import fetch_all, fetch_one
from jobs.models import PARKED, Pause

# True for a paused `job`. The table has few rows, and nearly always none.
PAUSED = """EXISTS (SELECT FROM job_pause AS pause WHERE pause.resumed_at IS NULL
                AND (pause.operation IS NULL OR pause.operation = job.operation)
                AND (pause.tenant_id IS NULL OR pause.tenant_id = job.tenant_id))"""
# Considers only the pauses that this transaction has locked.
PAUSED_BY_LOCKED = PAUSED.replace("WHERE", "WHERE pause.id = ANY(%(locked)s) AND", 1)
PARKED_AT = f"TIMESTAMPTZ '{PARKED.isoformat()}'"

# FOR SHARE: a resume waits for the transactions that park jobs because of this pause, and later transactions do not use the
# pause.
# # So no job is parked at an id that the unparking has already passed.
_LOCK = "SELECT id FROM job_pause WHERE resumed_at IS NULL FOR SHARE"

_RESUMED = """
    SELECT id, unparked_to FROM job_pause WHERE resumed_at IS NOT NULL ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"""

# Without SKIP LOCKED: a skipped job would stay parked for good. A transaction that has locked its row waits for none of ours.
_UNPARK = f"""
    WITH parked AS MATERIALIZED (
        SELECT id FROM job WHERE next_publish_at = {PARKED_AT} AND id > %(after)s ORDER BY id LIMIT %(limit)s
    ), unparked AS (
        UPDATE job SET next_publish_at = GREATEST(job.run_at, clock_timestamp()), publications = 0
        FROM parked WHERE job.id = parked.id AND job.next_publish_at = {PARKED_AT} AND NOT {PAUSED}
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM parked), (SELECT count(*) FROM unparked), (SELECT id FROM parked ORDER BY id DESC LIMIT 1)"""

_COUNT_RUNNING = """
    SELECT pause.id, (SELECT count(*) FROM job WHERE job.state = 'running'
        AND (pause.operation IS NULL OR pause.operation = job.operation)
        AND (pause.tenant_id IS NULL OR pause.tenant_id = job.tenant_id))
    FROM job_pause AS pause WHERE pause.id = ANY(%(ids)s)"""


@dataclass(frozen=True, slots=True)
class UnparkProgress:
    """The result of one batch."""

    unparked: int
    is_done: bool


def lock_pauses() -> list[int]:
    """Lock the pauses in force against a resume until this transaction ends. Lock order: before any job."""
    return [pause_id for (pause_id,) in fetch_all(_LOCK)]


def unpark_resumed_jobs(limit: int) -> UnparkProgress | None:
    """Make the next `limit` parked jobs after the resumed pause's position due, except those that another pause keeps.

    Return None if no pause was resumed, or another sweeper is working on it. Locks the pause, then those jobs; served by
    job_parked. The last batch deletes the pause. Dying in a batch leaves the position as it was.
    """
    with transaction.atomic():
        row = fetch_one(_RESUMED)
        if row is None:
            return None
        pause_id, after = row
        ((parked, unparked, last),) = fetch_all(_UNPARK, after=after, limit=limit)
        if parked < limit:
            Pause.objects.filter(pk=pause_id).delete()
        else:
            Pause.objects.filter(pk=pause_id).update(unparked_to=last)
    return UnparkProgress(unparked, is_done=parked < limit)


def count_running(pause_ids: Collection[int]) -> dict[int, int]:
    """Count the attempts that still run under each of these pauses. Reads the running jobs once per pause (job_running)."""
    return dict(fetch_all(_COUNT_RUNNING, ids=list(pause_ids)))
