"""Events that change no state: cancel requests, late effects, provider events."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from broker.publisher import wake_waiters_on_commit
from foundation.statements import fetch_all, fetch_one
from jobs.models import Job

PROVIDER_EVENT = "provider-event"

# The members of an event's data that an erasure keeps: ids, verdicts and states. All others hold texts of clients, operators or
# external systems.
KEPT_WHEN_ERASED = ("step", "verdict", "then", "outcome", "by", "source", "message_id", "type", "key")

_APPEND = """
    WITH numbered AS (
        UPDATE job SET event_seq = event_seq + 1 WHERE id = %(job_id)s RETURNING id, event_seq, erased_at
    )
    INSERT INTO job_event (job_id, seq, type, attempt, data, created_at)
    SELECT id, event_seq, %(type)s, %(attempt)s, CASE WHEN erased_at IS NULL THEN %(data)s ELSE %(kept)s END::jsonb,
        clock_timestamp() FROM numbered
    RETURNING seq"""

_DECLINE_CANCEL = """
    WITH changed AS (
        UPDATE job SET event_seq = job.event_seq + CASE WHEN declined.already THEN 0 ELSE 1 END
        FROM (SELECT EXISTS (SELECT FROM job_event WHERE job_id = %(job_id)s AND type = 'cancel-declined'
                AND created_at >= (SELECT cancel_requested_at FROM job WHERE id = %(job_id)s)) AS already) AS declined
        WHERE job.id = %(job_id)s AND job.attempt = %(attempt)s AND job.state = 'running'
        RETURNING job.id, job.event_seq, declined.already
    ), event AS (
        INSERT INTO job_event (job_id, seq, type, attempt, data, created_at)
        SELECT id, event_seq, 'cancel-declined', %(attempt)s, %(data)s, clock_timestamp() FROM changed WHERE NOT already
    )
    SELECT event_seq, already FROM changed"""

_REQUEST_CANCEL = """
    WITH requested AS (
        UPDATE job SET cancel_requested_at = clock_timestamp(), event_seq = event_seq + 1
        WHERE id = %(job_id)s AND state IN ('queued', 'running') AND cancel_requested_at IS NULL
        RETURNING *
    ), event AS (
        INSERT INTO job_event (job_id, seq, type, attempt, data, created_at)
        SELECT id, event_seq, 'cancel-requested', attempt, %(data)s, cancel_requested_at FROM requested
    )
    SELECT * FROM requested"""

_RESOLVABLE = """
    SELECT job.id, step.name, event.data
    FROM job
    JOIN job_step AS step ON step.job_id = job.id AND step.state = 'started'
    CROSS JOIN LATERAL (
        SELECT data FROM job_event
        WHERE job_event.job_id = job.id AND job_event.type = %(type)s
          AND job_event.data ->> 'key' = step.downstream_key AND job_event.data ? 'result'
        ORDER BY seq LIMIT 1
    ) AS event
    WHERE job.state = 'unknown'
    ORDER BY job.id DESC
    LIMIT %(limit)s"""


@dataclass(frozen=True)
class ResolvableJob:
    """An unknown job with a provider event about its open effect. Fields in the order of the query's columns."""

    job_id: UUID
    step: str
    data: Mapping[str, Any]


def append_event(*, job_id: UUID, type: str, attempt: int, data: Mapping[str, Any]) -> None:  # noqa: A002 - the column's name
    """Append an event to the job's history if the job exists; an erased job gets only KEPT_WHEN_ERASED. Locks the job's row."""
    row = fetch_one(
        _APPEND,
        job_id=job_id,
        type=type,
        attempt=attempt,
        data=json.dumps(dict(data)),
        kept=json.dumps({name: value for name, value in data.items() if name in KEPT_WHEN_ERASED}),
    )
    if row is not None:
        wake_waiters_on_commit(job_id, row[0])


def append_late_effect(*, job_id: UUID, attempt: int, data: Mapping[str, Any]) -> None:
    """Record what a stale attempt learned from the downstream, for the operator who resolves the job.

    This is the only worker write that does not check the fence: the attempt is already stale.
    """
    append_event(job_id=job_id, type="late-effect", attempt=attempt, data=data)


def append_provider_event(*, job_id: UUID, data: Mapping[str, Any]) -> None:
    """Record a provider event, in whatever state the job is."""
    append_event(job_id=job_id, type=PROVIDER_EVENT, attempt=0, data=data)


def find_resolvable_jobs(*, limit: int) -> list[ResolvableJob]:
    """Return unknown jobs with a provider event about the effect whose outcome is unknown, newest first.

    Served by job_in_trouble, then by primary keys. Locks nothing: the resolve checks again.
    """
    rows = fetch_all(_RESOLVABLE, type=PROVIDER_EVENT, limit=limit)
    return [ResolvableJob(job_id, step, json.loads(data)) for job_id, step, data in rows]


def decline_cancel(*, job_id: UUID, attempt: int, detail: str) -> bool:
    """Record once per cancel request that it came too late; return False if the attempt is stale. Locks the job's row."""
    row = fetch_one(_DECLINE_CANCEL, job_id=job_id, attempt=attempt, data=json.dumps({"detail": detail}))
    if row is None:
        return False
    seq, already = row
    if not already:
        wake_waiters_on_commit(job_id, seq)
    return True


def request_cancel(*, job_id: UUID, event_data: Mapping[str, str] | None = None) -> Job | None:
    """Set the cancel request that the attempt will see; None if it was set before or the job has ended. Locks the job's row."""
    values = {"job_id": job_id, "data": json.dumps(dict(event_data or {}))}
    job = next(iter(Job.objects.raw(_REQUEST_CANCEL, values)), None)
    if job is not None:
        wake_waiters_on_commit(job.id, job.event_seq)
    return job
