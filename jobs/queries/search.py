"""Look-ups of operators across tenants: jobs by key, request or reference, and the selection of a bulk action."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from foundation.statements import fetch_all
from jobs.ids import ids_within
from jobs.models import BulkAction
from jobs.queries.tenant_jobs import OPERATIONS_OF_TENANT

# How long after a request began it has submitted its job: several times the time-out of its statements.
_ACCEPTED_WITHIN = timedelta(minutes=1)

# The index begins with tenant and mode. One look-up for each pair costs microseconds; an index on the key alone would cost a
# write per job.
_ENDED_BY_KEY = """
    SELECT found.id FROM tenant CROSS JOIN (VALUES ('live'), ('test')) AS modes (mode), LATERAL (
        SELECT id FROM job
        WHERE tenant_id = tenant.id AND mode = modes.mode AND idempotency_key = %(text)s AND finished_at IS NOT NULL
        ORDER BY id DESC LIMIT %(limit)s
    ) AS found
    ORDER BY found.id DESC LIMIT %(limit)s"""

_BY_REQUEST = """
    SELECT id FROM job WHERE id >= %(first)s AND id < %(last)s AND request_id = %(text)s ORDER BY id DESC LIMIT %(limit)s"""

_BY_REFERENCE = """
    SELECT DISTINCT job_id FROM job_step WHERE reference = %(text)s AND reference IS NOT NULL
    ORDER BY job_id DESC LIMIT %(limit)s"""

# The inner query uses an index; the other conditions are checked on a bounded number of rows.
_COUNT = """
    SELECT count(*) FILTER (
        WHERE (%(operation)s::text IS NULL OR operation = %(operation)s)
          AND (%(priority)s::int IS NULL OR priority = %(priority)s)
          AND (%(error_code)s::text IS NULL OR error_code = %(error_code)s)
          AND (%(error_cause)s::text IS NULL OR error_cause = %(error_cause)s)
          AND (%(tenant_id)s::bigint IS NULL OR tenant_id = %(tenant_id)s)
          AND (%(mode)s::text IS NULL OR mode = %(mode)s)
          AND (%(created_from)s::timestamptz IS NULL OR created_at >= %(created_from)s)
          AND (%(created_before)s::timestamptz IS NULL OR created_at < %(created_before)s)
    ), count(*)"""
_IN_RANGE = """
          AND (%(first_id)s::uuid IS NULL OR job.id >= %(first_id)s) AND (%(last_id)s::uuid IS NULL OR job.id < %(last_id)s)"""
# Between them, job_held and job_claim contain the queued jobs of all tenants.
_COUNT_OF_ALL = f"""{_COUNT} FROM (
        SELECT * FROM job
        WHERE CASE WHEN %(state)s = 'queued' THEN job.held OR (job.state = 'queued' AND NOT job.held)
              ELSE job.state = %(state)s END{_IN_RANGE}
        LIMIT %(examined)s
    ) AS candidates"""
_COUNT_OF_TENANT = f"""
    WITH RECURSIVE {OPERATIONS_OF_TENANT}{_COUNT} FROM (
        SELECT job.* FROM operations JOIN job
            ON job.tenant_id = %(tenant_id)s AND job.mode = %(mode)s AND job.operation = operations.name
        WHERE job.state = %(state)s{_IN_RANGE}
        LIMIT %(examined)s
    ) AS candidates"""


def ended_ids_by_key(*, text: str, limit: int) -> list[UUID]:
    """Return the newest ended jobs of this key, of any tenant. Served by job_ended_by_key, once per tenant and mode.

    A job that has not ended is named by the record of its key.
    """
    return [job_id for (job_id,) in fetch_all(_ENDED_BY_KEY, text=text, limit=limit)]


def ids_by_request(*, request_id: UUID, limit: int) -> list[UUID]:
    """Return the newest jobs submitted by this request, whose id we generated: a UUIDv7, which contains its time.

    Reads the jobs of a minute by job_pkey. Both ids are of one process, so their clock is the same.
    """
    first, last = ids_within(request_id, _ACCEPTED_WITHIN)
    rows = fetch_all(_BY_REQUEST, first=first, last=last, text=str(request_id), limit=limit)
    return [job_id for (job_id,) in rows]


def ids_by_reference(*, text: str, limit: int) -> list[UUID]:
    """Return the newest jobs with an effect of this downstream reference. Served by job_step_by_reference."""
    return [job_id for (job_id,) in fetch_all(_BY_REFERENCE, text=text, limit=limit)]


def count_matching_jobs(values: Mapping[str, Any], *, examined: int) -> tuple[int, bool]:
    """Count the matching jobs among the first `examined` candidates; also return whether there are more candidates.

    Served by job_list for a tenant and mode, else by the state's own index: job_in_trouble, job_running, or
    job_claim with job_held.
    """
    is_of_tenant = values["tenant_id"] is not None and values["mode"] is not None
    statement = _COUNT_OF_TENANT if is_of_tenant else _COUNT_OF_ALL
    ((count, candidates),) = fetch_all(statement, **{**values, "examined": examined + 1})
    return int(count), int(candidates) > examined


def lock_bulk_action(bulk_id: int) -> BulkAction | None:
    """Lock the bulk action until this transaction ends; None if it has finished. Lock order: before records and jobs."""
    return BulkAction.objects.select_for_update().filter(pk=bulk_id, finished_at=None).first()
