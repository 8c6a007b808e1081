"""Events that change no state: what was asked for, declined, or heard too late."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.db import connection

from jobs.models import Job

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

_APPEND = """
    WITH numbered AS (
        UPDATE job SET event_seq = event_seq + 1 WHERE id = %(job_id)s RETURNING id, event_seq
    )
    INSERT INTO job_event (job_id, seq, type, attempt, data, created_at)
    SELECT id, event_seq, %(type)s, %(attempt)s, %(data)s, clock_timestamp() FROM numbered"""

_REQUEST_CANCEL = """
    WITH asked AS (
        UPDATE job SET cancel_requested_at = clock_timestamp(), event_seq = event_seq + 1
        WHERE id = %(job_id)s AND state IN ('queued', 'running') AND cancel_requested_at IS NULL
        RETURNING *
    ), event AS (
        INSERT INTO job_event (job_id, seq, type, attempt, data, created_at)
        SELECT id, event_seq, 'cancel-requested', attempt, '{}', cancel_requested_at FROM asked
    )
    SELECT * FROM asked"""


def append_event(*, job_id: UUID, event_type: str, attempt: int, data: Mapping[str, Any]) -> None:
    """The job's history has one more line; its state, its lease and its attempt are as before. Locks the job's row."""
    with connection.cursor() as cursor:
        cursor.execute(
            _APPEND, {"job_id": job_id, "type": event_type, "attempt": attempt, "data": json.dumps(data)}
        )


def request_cancel(*, job_id: UUID) -> Job | None:
    """The wish to cancel is on the job, for its attempt to see; None where it was there or the job has ended. Locks its row."""
    return next(iter(Job.objects.raw(_REQUEST_CANCEL, {"job_id": job_id})), None)
