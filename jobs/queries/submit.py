"""The row that makes a job, and its first event, in one statement."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connection

from jobs.models import Job
from jobs.signals import JobMove, announce_move
from jobs.states import Event

if TYPE_CHECKING:
    from collections.abc import Mapping

# Two keys of one hash wait for one another, and nothing else comes of it.
_LOCK_LINE = "SELECT pg_advisory_xact_lock(hashtextextended(%(line)s, 0))"

# DO NOTHING: of two jobs with one identity the second is refused without breaking the transaction that accepts it.
_INSERT = """
    WITH submitted AS (
        INSERT INTO job (id, tenant_id, mode, operation, operation_version, params, metadata, state, attempts_left, max_attempts,
                         run_at, next_publish_at, deadline_at, concurrency_key, accept_seq, queue, priority, identity, created_at,
                         idempotency_record_id, idempotency_key, request_id, traceparent)
        SELECT %(id)s, %(tenant_id)s, %(mode)s, %(operation)s, %(operation_version)s, %(params)s, %(metadata)s, 'queued',
               %(max_attempts)s, %(max_attempts)s, GREATEST(%(run_at)s, t.at), GREATEST(%(run_at)s, t.at + %(grace)s),
               %(deadline_at)s, %(concurrency_key)s, CASE WHEN %(concurrency_key)s IS NOT NULL THEN nextval('job_accept_seq') END,
               %(queue)s, %(priority)s, %(identity)s, t.at,
               %(idempotency_record_id)s, %(idempotency_key)s, %(request_id)s, %(traceparent)s
        FROM (SELECT clock_timestamp() AS at) AS t
        ON CONFLICT (tenant_id, mode, operation, identity)
            WHERE identity IS NOT NULL AND NOT (state IN ('canceled', 'failed')) DO NOTHING
        RETURNING *
    ), event AS (
        INSERT INTO job_event (job_id, seq, type, attempt, data, created_at)
        SELECT id, event_seq, 'submit', 0, '{}', created_at FROM submitted
    )
    SELECT * FROM submitted"""

_FIND_TWIN = """
    SELECT id FROM job WHERE tenant_id = %(tenant_id)s AND mode = %(mode)s AND operation = %(operation)s
        AND identity = %(identity)s AND identity IS NOT NULL AND NOT (state IN ('canceled', 'failed'))"""


def lock_line(*, tenant_id: int, mode: str, concurrency_key: str) -> None:
    """Until this transaction ends nobody else enters the line of this key, so that its numbers rise in the order of commits.

    Waits for whoever enters it just now. Lock order: after the idempotency record, before any job.
    """
    with connection.cursor() as cursor:
        cursor.execute(_LOCK_LINE, {"line": f"{tenant_id}/{mode}/{concurrency_key}"})


def insert_job(*, job_id: UUID, metadata: Mapping[str, str], **values: Any) -> Job | None:  # noqa: ANN401 - statement parameters
    """The new job, queued and due now or at `run_at`, with event 1; None where a live job has its identity.

    Locks nothing that others could hold: the id is fresh. With an identity it waits for another job of it that is being
    accepted, under the connection's lock_timeout; job_one_per_identity serves it.
    """
    parameters = {"id": job_id, "metadata": json.dumps(dict(metadata)), **values}
    job = next(iter(Job.objects.raw(_INSERT, parameters)), None)
    if job is not None:
        announce_move(JobMove(job.operation, Event.SUBMIT.value, job.state))
    return job


def find_twin(*, tenant_id: int, mode: str, operation: str, identity: bytes) -> UUID | None:
    """The live job with this identity; None where it has just failed or been canceled. Served by job_one_per_identity."""
    values: dict[str, Any] = {
        "tenant_id": tenant_id,
        "mode": mode,
        "operation": operation,
        "identity": identity,
    }
    with connection.cursor() as cursor:
        cursor.execute(_FIND_TWIN, values)
        row = cursor.fetchone()
    return row and UUID(str(row[0]))
