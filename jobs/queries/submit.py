"""The row that makes a job, and its first event, in one statement."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jobs.models import Job

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

_INSERT = """
    WITH submitted AS (
        INSERT INTO job (id, tenant_id, mode, operation, operation_version, params, metadata, state, attempts_left, max_attempts,
                         run_at, next_publish_at, queue, priority, created_at, idempotency_record_id, idempotency_key)
        SELECT %(id)s, %(tenant_id)s, %(mode)s, %(operation)s, %(operation_version)s, %(params)s, %(metadata)s, 'queued',
               %(max_attempts)s, %(max_attempts)s, t.at, t.at + %(grace)s, %(queue)s, %(priority)s, t.at,
               %(idempotency_record_id)s, %(idempotency_key)s
        FROM (SELECT clock_timestamp() AS at) AS t
        RETURNING *
    ), event AS (
        INSERT INTO job_event (job_id, seq, type, attempt, data, created_at)
        SELECT id, event_seq, 'submit', 0, '{}', created_at FROM submitted
    )
    SELECT * FROM submitted"""


def insert_job(*, job_id: UUID, metadata: Mapping[str, str], **values: Any) -> Job:  # noqa: ANN401 - statement parameters
    """The new job, queued and due, with event 1. Locks nothing that others could hold: the id is fresh."""
    parameters = {"id": job_id, "metadata": json.dumps(dict(metadata)), **values}
    return Job.objects.raw(_INSERT, parameters)[0]
