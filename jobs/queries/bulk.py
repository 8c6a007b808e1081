"""The statements behind an act on many jobs at once: how many there are, and who walks over them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import connection

from jobs.models import BulkAction

if TYPE_CHECKING:
    from collections.abc import Mapping

# What an index can tell is asked inside, the rest of a bounded number of rows.
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


def count_wanted(wanted: Mapping[str, Any], *, examined: int) -> tuple[int, bool]:
    """How many of the first `examined` candidates are wanted, and whether there are more candidates.

    Served by job_list_by_state for a tenant and mode, else by the state's own index: job_in_trouble, job_running or
    job_queued_by_queue.
    """
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, {**wanted, "examined": examined + 1})
        count, seen = cursor.fetchone()
    return int(count), int(seen) > examined


def lock_bulk(bulk_id: int) -> BulkAction | None:
    """The act is this transaction's until it ends; None where it is over. The lock comes before those of records and jobs."""
    return BulkAction.objects.select_for_update().filter(pk=bulk_id, finished_at=None).first()
