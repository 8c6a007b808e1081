"""Erase the payload of an ended job; ids, keys and states stay."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from broker.publisher import wake_waiters_on_commit
from jobs.models import Job
from jobs.payloads import encode_payload
from jobs.queries.events import KEPT_WHEN_ERASED

# There is one part for each table with data of a client or an external system; tests/contract/test_erase_payload.py checks every
# table. The identity of a succeeded job is kept, so that a duplicate is still refused.
_ERASE = """
    WITH erased AS (
        UPDATE job SET params = %(nothing)s, result = CASE WHEN result IS NOT NULL THEN %(nothing)s END::bytea,
            error = CASE WHEN error IS NOT NULL THEN %(error)s END::bytea, error_cause = NULL, progress = NULL, metadata = '{}',
            concurrency_key = NULL, accept_seq = NULL, identity = CASE WHEN state = 'succeeded' THEN identity END,
            erased_at = clock_timestamp(), event_seq = event_seq + 1
        WHERE id = %(job_id)s AND erased_at IS NULL AND finished_at IS NOT NULL
        RETURNING *
    ), attempts AS (
        UPDATE job_attempt SET error = NULL FROM erased WHERE job_attempt.job_id = erased.id AND job_attempt.error IS NOT NULL
    ), steps AS (
        UPDATE job_step SET result = %(nothing)s FROM erased WHERE job_step.job_id = erased.id AND job_step.result IS NOT NULL
    ), events AS (
        UPDATE job_event SET data = (
            SELECT coalesce(jsonb_object_agg(member.key, member.value), '{}') FROM jsonb_each(job_event.data) AS member
            WHERE member.key = ANY(%(kept)s)
        )
        FROM erased WHERE job_event.job_id = erased.id AND job_event.data - %(kept)s::text[] <> '{}'
    ), event AS (
        INSERT INTO job_event (job_id, seq, type, attempt, data, created_at)
        SELECT id, event_seq, 'payload-erased', attempt, '{}', erased_at FROM erased
    )
    SELECT * FROM erased"""


def lock_job(job_id: UUID) -> Job | None:
    """Lock the job's row until this transaction ends; None if it is gone. Lock order: after the record."""
    return Job.objects.select_for_update(no_key=True).filter(pk=job_id).first()


def erase_job(*, job_id: UUID, error: Mapping[str, Any]) -> Job | None:
    """Erase params, metadata, result, errors, progress, step results and event texts; `error` replaces the job's error.

    None if the job was erased before or has not ended. One statement; locks the job's row, then its children's.
    """
    values = {
        "job_id": job_id,
        "nothing": encode_payload(None),
        "error": encode_payload(dict(error)),
        "kept": list(KEPT_WHEN_ERASED),
    }
    job = next(iter(Job.objects.raw(_ERASE, values)), None)
    if job is not None:
        wake_waiters_on_commit(job.id, job.event_seq)
    return job
