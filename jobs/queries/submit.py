"""Insert a job with its first event."""

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from foundation.statements import execute, fetch_one
from jobs.models import Job
from jobs.signals import StateChange, announce_state_change
from jobs.states import Event

# Two keys with the same hash wait for each other, which does no harm.
_LOCK_KEY = "SELECT pg_advisory_xact_lock(hashtextextended(%(concurrency_queue)s, 0))"

# DO NOTHING: a duplicate identity is refused without aborting the transaction.
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

_FIND_BY_IDENTITY = """
    SELECT id FROM job WHERE tenant_id = %(tenant_id)s AND mode = %(mode)s AND operation = %(operation)s
        AND identity = %(identity)s AND identity IS NOT NULL AND NOT (state IN ('canceled', 'failed'))"""


def lock_concurrency_key(*, tenant_id: int, mode: str, concurrency_key: str) -> None:
    """Let no other transaction enter this concurrency queue until ours ends, so that accept_seq rises in the order of commits.

    Waits for a transaction that is entering it. Lock order: after the idempotency record, before any job.
    """
    execute(_LOCK_KEY, concurrency_queue=f"{tenant_id}/{mode}/{concurrency_key}")


def insert_job(*, job_id: UUID, metadata: Mapping[str, str], **values: Any) -> Job | None:  # noqa: ANN401 - statement parameters
    """Insert the job with event 1, due now or at `run_at`; None if a live job has its identity.

    Locks no existing row. With an identity it waits, within lock_timeout, for a transaction that inserts the same one;
    served by job_one_per_identity.
    """
    parameters = {"id": job_id, "metadata": json.dumps(dict(metadata)), **values}
    job = next(iter(Job.objects.raw(_INSERT, parameters)), None)
    if job is not None:
        announce_state_change(StateChange(job.operation, Event.SUBMIT.value, job.state))
    return job


def find_job_by_identity(*, tenant_id: int, mode: str, operation: str, identity: bytes) -> UUID | None:
    """Return the live job with this identity; None if it has just failed or been canceled. Served by job_one_per_identity."""
    row = fetch_one(_FIND_BY_IDENTITY, tenant_id=tenant_id, mode=mode, operation=operation, identity=identity)
    return None if row is None else row[0]
