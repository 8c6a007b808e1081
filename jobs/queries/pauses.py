"""Pauses: what keeps jobs from being claimed, and from being published in vain meanwhile.

A pause that is in force has no `resumed_at`. A queued job that the sweeper finds due and paused is parked: its next
publication lies at the end of time (PARKED), so that it costs no later sweep anything. A pause that was resumed stays until
a walk over the parked jobs has made those due that nothing pauses any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import connection, transaction

from jobs.models import PARKED, Pause

if TYPE_CHECKING:
    from collections.abc import Collection

# Of the job in question. The table has a handful of rows, and nearly always none.
PAUSED = """EXISTS (SELECT FROM job_pause AS pause WHERE pause.resumed_at IS NULL
        AND (pause.operation IS NULL OR pause.operation = job.operation)
        AND (pause.tenant_id IS NULL OR pause.tenant_id = job.tenant_id))"""
# Of those that the asking transaction holds.
PAUSED_BY_HELD = PAUSED.replace("WHERE", "WHERE pause.id = ANY(%(held)s) AND", 1)
PARKED_AT = f"TIMESTAMPTZ '{PARKED.isoformat()}'"

# SHARE: a resume waits for whoever parks by this pause, and whoever parks after a resume does not see the pause any more. So
# no job is parked behind the walk that a resume begins.
_HOLD = "SELECT id FROM job_pause WHERE resumed_at IS NULL FOR SHARE"

_RESUMED = """
    SELECT id, walked_to FROM job_pause WHERE resumed_at IS NOT NULL ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"""

# No SKIP LOCKED: a job that is passed by would stay parked for good. Whoever holds its row holds no other that we want.
_UNPARK = f"""
    WITH parked AS MATERIALIZED (
        SELECT id FROM job WHERE next_publish_at = {PARKED_AT} AND id > %(after)s ORDER BY id LIMIT %(limit)s
    ), freed AS (
        UPDATE job SET next_publish_at = GREATEST(job.run_at, clock_timestamp()), publications = 0
        FROM parked WHERE job.id = parked.id AND job.next_publish_at = {PARKED_AT} AND NOT {PAUSED}
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM parked), (SELECT count(*) FROM freed), (SELECT id FROM parked ORDER BY id DESC LIMIT 1)"""

_COUNT_RUNNING = """
    SELECT pause.id, (SELECT count(*) FROM job WHERE job.state = 'running'
        AND (pause.operation IS NULL OR pause.operation = job.operation)
        AND (pause.tenant_id IS NULL OR pause.tenant_id = job.tenant_id))
    FROM job_pause AS pause WHERE pause.id = ANY(%(ids)s)"""


@dataclass(frozen=True, slots=True)
class Walked:
    """One step of a walk over the parked jobs."""

    freed: int
    is_done: bool


def hold_pauses() -> list[int]:
    """The pauses in force, which stay so until this transaction ends. The lock comes before those of jobs."""
    with connection.cursor() as cursor:
        cursor.execute(_HOLD)
        return [pause_id for (pause_id,) in cursor.fetchall()]


def walk_on(limit: int) -> Walked | None:
    """The next `limit` parked jobs behind a resumed pause's mark are due, but for those that another pause keeps.

    None where no pause was resumed, or another sweeper walks for it. Locks the pause, then those jobs; served by job_parked.
    The pause is gone after the last step. Dying in a step leaves the mark where it was.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_RESUMED)
        row = cursor.fetchone()
        if row is None:
            return None
        pause_id, after = row
        values: dict[str, Any] = {"after": after, "limit": limit}
        cursor.execute(_UNPARK, values)
        seen, freed, last = cursor.fetchone()
        if seen < limit:
            Pause.objects.filter(pk=pause_id).delete()
        else:
            Pause.objects.filter(pk=pause_id).update(walked_to=last)
    return Walked(freed, is_done=seen < limit)


def count_running(pause_ids: Collection[int]) -> dict[int, int]:
    """How many attempts still run under each of these pauses. Reads the running jobs once a pause (job_running)."""
    values: dict[str, Any] = {"ids": list(pause_ids)}
    with connection.cursor() as cursor:
        cursor.execute(_COUNT_RUNNING, values)
        return dict(cursor.fetchall())
