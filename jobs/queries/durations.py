"""How long jobs took, for hints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import connection

if TYPE_CHECKING:
    from collections.abc import Collection


class Kind(NamedTuple):
    """One tenant's jobs of one operation in one mode: what others' jobs take is nobody's business."""

    tenant_id: int
    mode: str
    operation: str


# An odd number, whose median is one of them; few, so that it follows what changes.
_JOBS = 21
_MEDIANS = """
    SELECT asked.tenant_id, asked.mode, asked.operation,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM job.finished_at - job.started_at))
    FROM unnest(%(tenants)s::bigint[], %(modes)s::text[], %(operations)s::text[]) AS asked (tenant_id, mode, operation)
    CROSS JOIN LATERAL (
        SELECT started_at, finished_at FROM job
        WHERE job.tenant_id = asked.tenant_id AND job.mode = asked.mode AND job.operation = asked.operation
            AND job.state = 'succeeded'
        ORDER BY job.id DESC LIMIT %(jobs)s
    ) AS job
    GROUP BY asked.tenant_id, asked.mode, asked.operation"""


def median_seconds(kinds: Collection[Kind]) -> dict[Kind, float]:
    """For each kind that has any, the median run time of its latest jobs that succeeded.

    One statement; of each kind the first entries of job_list_by_operation_state. Locks nothing.
    """
    values: dict[str, Any] = {
        "tenants": [kind.tenant_id for kind in kinds],
        "modes": [kind.mode for kind in kinds],
        "operations": [kind.operation for kind in kinds],
        "jobs": _JOBS,
    }
    with connection.cursor() as cursor:
        cursor.execute(_MEDIANS, values)
        return {
            Kind(tenant_id, mode, operation): float(seconds)
            for tenant_id, mode, operation, seconds in cursor.fetchall()
            if seconds is not None
        }
