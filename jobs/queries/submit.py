"""Insert a job with its first event."""

import json
from typing import Any
from uuid import UUID

from foundation.statements import fetch_one
from jobs.models import Job
from jobs.queries.concurrency_queue import INSERTED_BLOCKED

_COLUMNS = (
    *("tenant_id", "mode", "operation", "operation_version", "params", "max_attempts", "run_at", "deadline_at"),
    *("concurrency_key", "queue", "priority", "identity", "created_at", "idempotency_key", "request_id", "traceparent"),
)
# `accepted` has one row with the id of the idempotency record (or NULL), or none: then no job is written.
# DO NOTHING: a duplicate identity is refused without aborting the transaction.
JOB_CTES = f"""
submitted AS (
    INSERT INTO job (id, tenant_id, mode, operation, operation_version, params, metadata, state, attempts_left, max_attempts,
                     run_at, held, deadline_at, concurrency_key, accept_seq, queue, priority, identity, created_at,
                     idempotency_record_id, idempotency_key, request_id, traceparent)
    SELECT %(job_id)s, %(tenant_id)s, %(mode)s, %(operation)s, %(operation_version)s, %(params)s, %(metadata)s, 'queued',
           %(max_attempts)s, %(max_attempts)s, t.run_at,
           t.run_at <= t.at AND {INSERTED_BLOCKED},
           %(deadline_at)s, %(concurrency_key)s::text,
           CASE WHEN %(concurrency_key)s::text IS NOT NULL THEN nextval('job_accept_seq') END,
           %(queue)s, %(priority)s, %(identity)s, t.at,
           accepted.id, %(idempotency_key)s, %(request_id)s, %(traceparent)s
    FROM accepted, LATERAL (
        SELECT clock.at, GREATEST(%(run_at)s::timestamptz, clock.at) AS run_at
        FROM (SELECT COALESCE(%(created_at)s::timestamptz, clock_timestamp()) AS at) AS clock
    ) AS t
    ON CONFLICT (tenant_id, mode, operation, identity)
        WHERE identity IS NOT NULL AND NOT (state IN ('canceled', 'failed')) DO NOTHING
    RETURNING *
), event AS (
    INSERT INTO job_event (job_id, seq, type, attempt, data, created_at)
    SELECT id, event_seq, 'submit', 0, '{{}}', created_at FROM submitted
)"""
_INSERT = f"""
WITH accepted AS (SELECT %(idempotency_record_id)s::bigint AS id), {JOB_CTES}
SELECT run_at, created_at, accept_seq, held FROM submitted"""

_FIND_BY_IDENTITY = """
    SELECT id FROM job WHERE tenant_id = %(tenant_id)s AND mode = %(mode)s AND operation = %(operation)s
        AND identity = %(identity)s AND identity IS NOT NULL AND NOT (state IN ('canceled', 'failed'))"""


def job_values(job: Job) -> dict[str, Any]:
    """Return the parameters of JOB_CTES. `created_at` None is the database's clock."""
    return {
        "job_id": job.id,
        "metadata": json.dumps(job.metadata) if job.metadata else "{}",
        **{name: getattr(job, name) for name in _COLUMNS},
    }


def insert_job(job: Job) -> bool:
    """Insert the job with event 1, and set what the database gave it; return False if a live job has its identity.

    Locks no existing row. With an identity it waits, within lock_timeout, for a transaction that inserts the same one;
    served by job_one_per_identity.
    """
    row = fetch_one(_INSERT, **job_values(job), idempotency_record_id=job.idempotency_record_id)
    if row is None:
        return False
    job.run_at, job.created_at, job.accept_seq, job.held = row
    return True


def find_job_by_identity(job: Job) -> UUID | None:
    """Return the live job with this job's identity; None if it has just failed or been canceled. By job_one_per_identity."""
    named = ("tenant_id", "mode", "operation", "identity")
    row = fetch_one(_FIND_BY_IDENTITY, **{name: getattr(job, name) for name in named})
    return None if row is None else row[0]
