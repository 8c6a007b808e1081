"""Concurrency queues: the jobs of one tenant, mode and concurrency key run one at a time, in the order of `accept_seq`.

A job waits in the queue once its first `run_at` has come. It is blocked while another job of the queue runs or waits before it.
A blocked job is held, so that claims do not meet it.

Each transaction in which a job enters the queue, leaves it or is held takes the queue's advisory lock in a statement of its own.
Under READ COMMITTED the next statement then sees everything that earlier holders of the lock have committed. So a job is held
only behind a job that leaves later, and the job that leaves releases the first that waits. A claim needs no lock: the first job
waits no longer, but it still blocks the others.
"""

from foundation.statements import execute

_NOW = "(SELECT clock_timestamp())"
_SAME_KEY = """other.tenant_id = {0}.tenant_id AND other.mode = {0}.mode
                    AND other.concurrency_key = {0}.concurrency_key AND other.id <> {0}.id"""
_WAITS = f"(other.attempt > 0 OR other.run_at <= {_NOW})"

# There are two conditions, each with an index: a single one would read the whole queue to find that no job is running.
NOT_BLOCKED = f"""(job.concurrency_key IS NULL OR (
                NOT EXISTS (SELECT FROM job AS other WHERE {_SAME_KEY.format("job")} AND other.state = 'running')
                AND NOT EXISTS (SELECT FROM job AS other WHERE {_SAME_KEY.format("job")} AND other.state = 'queued'
                    AND other.accept_seq < job.accept_seq AND {_WAITS})))"""

# Whether a job is blocked that takes the last place of its queue: a row of the table, or one that is inserted.
_ANY_AHEAD = f"other.state IN ('queued', 'running') AND (other.state = 'running' OR {_WAITS})"
BLOCKED_AT_TAIL = f"""(job.concurrency_key IS NOT NULL AND EXISTS (
                    SELECT FROM job AS other WHERE {_SAME_KEY.format("job")} AND {_ANY_AHEAD}))"""
INSERTED_BLOCKED = f"""(%(concurrency_key)s::text IS NOT NULL AND EXISTS (
               SELECT FROM job AS other WHERE other.tenant_id = %(tenant_id)s AND other.mode = %(mode)s::varchar
               AND other.concurrency_key = %(concurrency_key)s::text AND {_ANY_AHEAD}))"""

# The first that waits behind a job that leaves (`changed`), unless another one runs. A job that is to be retried keeps its place
# and blocks those behind it; those before it may run. A queue's lock is held, so no other transaction that leaves waits for
# this row.
RELEASE_HEAD = f""", head AS MATERIALIZED (
            SELECT first.id, first.queue, first.run_at <= {_NOW} AS is_due FROM changed, LATERAL (
                SELECT other.id, other.queue, other.run_at FROM job AS other
                WHERE {_SAME_KEY.format("changed")} AND other.state = 'queued' AND {_WAITS}
                  AND (changed.state <> 'queued' OR other.accept_seq < changed.accept_seq)
                ORDER BY other.accept_seq LIMIT 1
            ) AS first
            WHERE changed.concurrency_key IS NOT NULL
              AND NOT EXISTS (SELECT FROM job AS other WHERE {_SAME_KEY.format("changed")} AND other.state = 'running')
        ), released AS (
            UPDATE job SET held = FALSE WHERE job.id = (SELECT id FROM head) AND job.held
        )"""

# Two keys with the same hash wait for each other, which does no harm.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%(concurrency_queue)s::text, 0))"
LOCK_QUEUE_OF_JOB = """
    SELECT pg_advisory_xact_lock(hashtextextended(concat_ws('/', tenant_id, mode, concurrency_key), 0))
    FROM job WHERE id = %(job_id)s AND concurrency_key IS NOT NULL"""


def lock_concurrency_key(*, tenant_id: int, mode: str, concurrency_key: str) -> None:
    """Let no other transaction change who is first in this concurrency queue until ours ends.

    So `accept_seq` rises in the order of commits. Waits for a transaction that holds the lock. Lock order: after the idempotency
    record, before any job.
    """
    execute(_LOCK, concurrency_queue=f"{tenant_id}/{mode}/{concurrency_key}")
