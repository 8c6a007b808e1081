"""A tenant's jobs in the order of their ids: pages and counts.

One index serves all of them: job_list (tenant, mode, operation, state, id DESC). It orders the ids of one operation in one state.
So each statement looks up the operations that the tenant has, and merges the first ids of each operation and state. An index for
each kind of list would cost every change of a state another entry.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any
from uuid import UUID

from foundation.statements import Row, fetch_all
from jobs.models import Job
from jobs.queries.read import job_columns, job_of
from jobs.states import State

_ANY_ID = {"first_id": UUID(int=0), "last_id": UUID(int=2**128 - 1)}
_SUMMARY = """job.id, job.operation, job.state, job.created_at, job.finished_at, job.attempt,
        CASE WHEN job.operation = %(results_of)s::text AND job.state = 'succeeded' THEN job.result END"""

# Jumps from the first entry of an operation to that of the next one.
OPERATIONS_OF_TENANT = """operations (name) AS (
        (SELECT operation FROM job WHERE tenant_id = %(tenant_id)s AND mode = %(mode)s ORDER BY operation LIMIT 1)
        UNION ALL
        SELECT following.operation FROM operations, LATERAL (
            SELECT operation FROM job WHERE tenant_id = %(tenant_id)s AND mode = %(mode)s AND operation > operations.name
            ORDER BY operation LIMIT 1
        ) AS following
    )"""
_ONE_OPERATION = "operations (name) AS (SELECT %(operation)s::text)"
# The bounds of the ids narrow the times; these conditions apply them exactly.
_TIMES = {
    "created_after": "job.created_at > %(created_after)s",
    "created_from": "job.created_at >= %(created_from)s",
    "created_before": "job.created_at < %(created_before)s",
}


def operations_of_tenant(*, tenant_id: int, mode: str) -> list[str]:
    """Return the operations of the tenant's jobs. Reads one entry of job_list per operation."""
    sql = f"WITH RECURSIVE {OPERATIONS_OF_TENANT} SELECT name FROM operations"
    return [name for (name,) in fetch_all(sql, tenant_id=tenant_id, mode=mode)]


def newest_jobs(values: Mapping[str, Any], *, limit: int) -> list[Job]:
    """Return the newest `limit` of a tenant's jobs. One statement; reads at most `limit` entries of job_list per kind.

    A kind is an operation in a state. values: tenant_id, mode, and those of operation, state, first_id (inclusive), last_id
    (exclusive), created_after, created_from and created_before that narrow the list. With a time, the rows are read as well.
    """
    sql, parameters = _page(job_columns(), "DESC", values)
    return [job_of(row) for row in fetch_all(sql, **parameters, limit=limit)]


def oldest_summaries(values: Mapping[str, Any], *, results_of: str | None, limit: int) -> list[Row]:
    """Return id, operation, state, created_at, finished_at, attempt and result of the oldest `limit` of a tenant's jobs.

    As `newest_jobs` in the other direction. Only succeeded jobs of the operation `results_of` have a result.
    """
    sql, parameters = _page(_SUMMARY, "ASC", values)
    return fetch_all(sql, **parameters, results_of=results_of, limit=limit)


def count_jobs(values: Mapping[str, Any], *, at_most: int | None = None) -> int:
    """Count a tenant's jobs, up to `at_most`. Reads the entries of job_list that it counts; with a time, also their rows."""
    candidates, parameters = _candidates("ASC", values)
    sql = f"""
    WITH RECURSIVE {candidates}
    SELECT count(*) FROM (SELECT FROM candidates LIMIT %(limit)s::bigint) AS counted"""
    ((count,),) = fetch_all(sql, **parameters, limit=at_most)
    return int(count)


def _page(columns: str, direction: str, values: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    candidates, parameters = _candidates(direction, values)
    sql = f"""
    WITH RECURSIVE {candidates}
    SELECT {columns}
    FROM (SELECT id FROM candidates ORDER BY id {direction} LIMIT %(limit)s::bigint) AS page JOIN job ON job.id = page.id
    ORDER BY job.id {direction}"""
    return sql, parameters


def _candidates(direction: str, values: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the common table expressions of the first ids of each kind, and the parameters without the limit."""
    given = {name: value for name, value in values.items() if value is not None}
    state = given.pop("state", None)
    times = tuple(name for name in _TIMES if name in given)
    parameters = {**_ANY_ID, **given, "states": list(State) if state is None else [state]}
    return _render_candidates(direction, has_operation="operation" in given, times=times), parameters


@cache
def _render_candidates(direction: str, *, has_operation: bool, times: tuple[str, ...]) -> str:
    at = "".join(f" AND {_TIMES[name]}" for name in times)
    return f"""{_ONE_OPERATION if has_operation else OPERATIONS_OF_TENANT}, candidates AS (
        SELECT first.id FROM operations, unnest(%(states)s::text[]) AS states (name), LATERAL (
            SELECT job.id FROM job
            WHERE job.tenant_id = %(tenant_id)s AND job.mode = %(mode)s
                AND job.operation = operations.name AND job.state = states.name
                AND job.id >= %(first_id)s AND job.id < %(last_id)s{at}
            ORDER BY job.id {direction} LIMIT %(limit)s::bigint
        ) AS first
    )"""
