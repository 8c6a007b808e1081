"""Jobs by what people on call have in hand, across tenants; each by its own index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import connection

if TYPE_CHECKING:
    from uuid import UUID

# The index of keys begins with tenant and mode: one look for each of these costs microseconds, an index of the keys alone a
# write for each job.
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


def ids_by_key(*, text: str, limit: int) -> list[UUID]:
    """The newest jobs submitted under this idempotency key, whosever it is. Served by job_list_by_key, once a tenant and mode."""
    return _fetch(_BY_KEY, text, limit)


def ids_by_request(*, text: str, limit: int) -> list[UUID]:
    """The newest jobs that this request asked for. Served by job_by_request_id."""
    return _fetch(_BY_REQUEST, text, limit)


def ids_by_reference(*, text: str, limit: int) -> list[UUID]:
    """The newest jobs with an effect that its downstream calls so. Served by job_step_by_reference."""
    return _fetch(_BY_REFERENCE, text, limit)


def _fetch(statement: str, text: str, limit: int) -> list[UUID]:
    values: dict[str, Any] = {"text": text, "limit": limit}
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return [job_id for (job_id,) in cursor.fetchall()]
