"""Fill the table of jobs with as many rows as a real installation has, by one statement."""

from __future__ import annotations

from django.db import connection

# The jobs belong to 200 tenants and to the last 30 days, the newest last. Nearly all have succeeded. One in a hundred has
# failed, one in ten
# thousand one is unknown; the newest wait or run. One operation of a thousand jobs is rare.
_FILL = """
    INSERT INTO job (id, tenant_id, mode, operation, operation_version, params, state, attempt, attempts_left, max_attempts,
        open_effects, run_at, lease_expires_at, worker, queue, priority, created_at, finished_at, result, error,
        idempotency_key, request_id)
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3) || 'a'
            || substr(md5(n::text), 4, 15))::uuid,
        %(tenant)s + abs(hashint4(n)) %% 200, CASE WHEN n %% 5 = 0 THEN 'live' ELSE 'test' END,
        CASE WHEN n %% 1000 = 7 THEN 'rare.operation' ELSE 'payments.charge' END, 1, '\\x017b7d',
        state, CASE state WHEN 'queued' THEN 0 ELSE 1 END, 3, 3, CASE state WHEN 'unknown' THEN 1 ELSE 0 END, at,
        CASE state WHEN 'running' THEN now() + interval '1 minute' END,
        CASE state WHEN 'running' THEN 'w' END, 'default', 1, at,
        CASE WHEN state IN ('succeeded', 'failed') THEN at END, '\\x01226f6b22', '\\x017b7d', 'key-' || n, 'request-' || n
    FROM (SELECT n, now() - (%(rows)s - n) * interval '30 days' / %(rows)s AS at,
            CASE WHEN n > %(rows)s - 100 THEN 'running' WHEN n > %(rows)s - 1500 THEN 'queued' WHEN n %% 100 = 3 THEN 'failed'
                 WHEN n %% 10000 = 4 THEN 'unknown' ELSE 'succeeded' END AS state
          FROM generate_series(1, %(rows)s) AS n) AS numbers"""


def fill_jobs(*, rows: int, tenant_id: int) -> None:
    """Insert `rows` jobs for 200 tenants whose ids start at `tenant_id`, and update the planner's statistics."""
    with connection.cursor() as cursor:
        cursor.execute(_FILL, {"rows": rows, "tenant": tenant_id})
        cursor.execute("ANALYZE job")
