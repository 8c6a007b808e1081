"""Events that change no state: what was asked for, declined, or heard too late."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.db import connection

from broker.wakeups import wake_waiters_on_commit
from jobs.models import Job

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

_APPEND = """
    WITH numbered AS (
        UPDATE job SET event_seq = event_seq + 1 WHERE id = %(job_id)s RETURNING id, event_seq, erased_at
    )
    INSERT INTO job_event (job_id, seq, type, attempt, data, created_at)
    SELECT id, event_seq, %(type)s, %(attempt)s, CASE WHEN erased_at IS NULL THEN %(data)s ELSE %(kept)s END::jsonb,
        clock_timestamp() FROM numbered
    RETURNING seq"""

# Of what an event tells, all that is ours or a name: ids, verdicts, states. The rest are words of clients, operators or the world
# and go with the payload.
KEPT_WHEN_ERASED = ("step", "verdict", "then", "outcome", "by", "source", "message_id", "type", "key")

_DECLINE_CANCEL = """
    WITH held AS (
        UPDATE job SET event_seq = job.event_seq + CASE WHEN told.already THEN 0 ELSE 1 END
        FROM (SELECT EXISTS (SELECT FROM job_event WHERE job_id = %(job_id)s AND type = 'cancel-declined'
                             AND created_at >= (SELECT cancel_requested_at FROM job WHERE id = %(job_id)s)) AS already) AS told
        WHERE job.id = %(job_id)s AND job.attempt = %(attempt)s AND job.state = 'running'
        RETURNING job.id, job.event_seq, told.already
    ), event AS (
        INSERT INTO job_event (job_id, seq, type, attempt, data, created_at)
        SELECT id, event_seq, 'cancel-declined', %(attempt)s, %(data)s, clock_timestamp() FROM held WHERE NOT already
    )
    SELECT event_seq, already FROM held"""

_REQUEST_CANCEL = """
    WITH asked AS (
        UPDATE job SET cancel_requested_at = clock_timestamp(), event_seq = event_seq + 1
        WHERE id = %(job_id)s AND state IN ('queued', 'running') AND cancel_requested_at IS NULL
        RETURNING *
    ), event AS (
        INSERT INTO job_event (job_id, seq, type, attempt, data, created_at)
        SELECT id, event_seq, 'cancel-requested', attempt, %(data)s, cancel_requested_at FROM asked
    )
    SELECT * FROM asked"""


def append_evidence(*, job_id: UUID, attempt: int, data: Mapping[str, Any]) -> None:
    """What a stale attempt heard from the world is in the job's history, for whoever resolves it. Nothing else changes.

    The one write of a worker's without a fence: it is made because the fence has passed. Locks the job's row. Of a job that
    was erased meanwhile, only that it was heard is kept, and not what.
    """
    append_event(job_id=job_id, type="late-effect", attempt=attempt, data=data)


def append_event(*, job_id: UUID, type: str, attempt: int, data: Mapping[str, Any]) -> None:  # noqa: A002 - the column's name
    """The job's history has one more event, if there is the job. Locks its row. Of an erased job it keeps no words but ours."""
    values: dict[str, Any] = {
        "job_id": job_id,
        "type": type,
        "attempt": attempt,
        "data": json.dumps(dict(data)),
        "kept": json.dumps({name: value for name, value in data.items() if name in KEPT_WHEN_ERASED}),
    }
    with connection.cursor() as cursor:
        cursor.execute(_APPEND, values)
        row = cursor.fetchone()
    if row is not None:
        wake_waiters_on_commit(job_id, row[0])


def decline_cancel(*, job_id: UUID, attempt: int, detail: str) -> bool:
    """The history says, once for each wish, that it came too late; False where the attempt holds the job no more.

    Locks the job's row.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _DECLINE_CANCEL, {"job_id": job_id, "attempt": attempt, "data": json.dumps({"detail": detail})}
        )
        row = cursor.fetchone()
    if row is None:
        return False
    seq, already = row
    if not already:
        wake_waiters_on_commit(job_id, seq)
    return True


def request_cancel(*, job_id: UUID, said: Mapping[str, str] | None = None) -> Job | None:
    """The wish to cancel is on the job, for its attempt to see; None where it was there or the job has ended. Locks its row."""
    values = {"job_id": job_id, "data": json.dumps(dict(said or {}))}
    job = next(iter(Job.objects.raw(_REQUEST_CANCEL, values)), None)
    if job is not None:
        wake_waiters_on_commit(job.id, job.event_seq)
    return job
