"""The payload of a job that has ended, gone for good; ids, keys and states stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.models import Job
from jobs.sealed import seal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any
    from uuid import UUID

# What an event says in words, or heard from the world; its cause is a name, not a payload.
_SAID = "'{detail,result,note}'::text[]"

_ERASE = f"""
    WITH erased AS (
        UPDATE job SET params = %(nothing)s, result = CASE WHEN result IS NOT NULL THEN %(nothing)s END::bytea,
            error = CASE WHEN error IS NOT NULL THEN %(error)s END::bytea, progress = NULL,
            erased_at = clock_timestamp(), event_seq = event_seq + 1
        WHERE id = %(job_id)s AND erased_at IS NULL AND finished_at IS NOT NULL
        RETURNING *
    ), attempts AS (
        UPDATE job_attempt SET error = NULL FROM erased WHERE job_attempt.job_id = erased.id AND job_attempt.error IS NOT NULL
    ), steps AS (
        UPDATE job_step SET result = %(nothing)s FROM erased WHERE job_step.job_id = erased.id AND job_step.result IS NOT NULL
    ), events AS (
        UPDATE job_event SET data = job_event.data - {_SAID} FROM erased
        WHERE job_event.job_id = erased.id AND job_event.data ?| {_SAID}
    ), event AS (
        INSERT INTO job_event (job_id, seq, type, attempt, data, created_at)
        SELECT id, event_seq, 'payload-erased', attempt, '{{}}', erased_at FROM erased
    )
    SELECT * FROM erased"""


def lock_job(job_id: UUID) -> Job | None:
    """The job's row is this transaction's until it ends; None where it is gone. The record's lock comes before."""
    return Job.objects.select_for_update(no_key=True).filter(pk=job_id).first()


def erase_job(*, job_id: UUID, error: Mapping[str, Any]) -> Job | None:
    """Params, result, errors, progress, step results and what the history quotes are gone; `error` stands for the job's, if any.

    None where that was done before, or the job has not ended. One statement; locks the job's row, then its children's.
    """
    values = {"job_id": job_id, "nothing": seal(None), "error": seal(dict(error))}
    return next(iter(Job.objects.raw(_ERASE, values)), None)
