"""Look-ups of operators across tenants: jobs by key, request or reference, and the selection of a bulk action."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from foundation.statements import fetch_all
from jobs.models import BulkAction

# The index begins with tenant and mode. One look-up for each pair costs microseconds; an index on the key alone would cost a
# write per job.
_BY_KEY = """
    SELECT found.id FROM tenant CROSS JOIN (VALUES ('live'), ('test')) AS modes (mode), LATERAL (
        SELECT id FROM job
        WHERE tenant_id = tenant.id AND mode = modes.mode AND idempotency_key = %(text)s ORDER BY id DESC LIMIT %(limit)s
    ) AS found
    ORDER BY found.id DESC LIMIT %(limit)s"""

_BY_REQUEST = """
    SELECT id FROM job WHERE request_id = %(text)s AND request_id IS NOT NULL ORDER BY id DESC LIMIT %(limit)s"""

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
          AND (%(created_from)s::timestamptz IS NULL OR created_at >= %(created_from)s)
          AND (%(created_before)s::timestamptz IS NULL OR created_at < %(created_before)s)
    ), count(*) FROM (
        SELECT * FROM job WHERE state = %(state)s AND (%(tenant_id)s::bigint IS NULL OR tenant_id = %(tenant_id)s)
          AND (%(mode)s::text IS NULL OR mode = %(mode)s)
          AND (%(first_id)s::uuid IS NULL OR id >= %(first_id)s) AND (%(last_id)s::uuid IS NULL OR id < %(last_id)s)
        LIMIT %(examined)s
    ) AS candidates"""


def ids_by_key(*, text: str, limit: int) -> list[UUID]:
    """Return the newest jobs of this idempotency key, of any tenant. Served by job_list_by_key, once per tenant and mode."""
    return [job_id for (job_id,) in fetch_all(_BY_KEY, text=text, limit=limit)]


def ids_by_request(*, text: str, limit: int) -> list[UUID]:
    """Return the newest jobs submitted by this request. Served by job_by_request_id."""
    return [job_id for (job_id,) in fetch_all(_BY_REQUEST, text=text, limit=limit)]


def ids_by_reference(*, text: str, limit: int) -> list[UUID]:
    """Return the newest jobs with an effect of this downstream reference. Served by job_step_by_reference."""
    return [job_id for (job_id,) in fetch_all(_BY_REFERENCE, text=text, limit=limit)]


def count_matching_jobs(values: Mapping[str, Any], *, examined: int) -> tuple[int, bool]:
    """Count the matching jobs among the first `examined` candidates; also return whether there are more candidates.

    Served by job_list_by_state for a tenant and mode, else by the state's own index: job_in_trouble, job_running or
    job_queued_by_queue.
    """
    ((count, candidates),) = fetch_all(_COUNT, **{**values, "examined": examined + 1})
    return int(count), int(candidates) > examined


def lock_bulk_action(bulk_id: int) -> BulkAction | None:
    """Lock the bulk action until this transaction ends; None if it has finished. Lock order: before records and jobs."""
    return BulkAction.objects.select_for_update().filter(pk=bulk_id, finished_at=None).first()
