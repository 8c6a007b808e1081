"""SQL statements for API keys and audit entries."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from foundation.statements import execute, fetch_all, read_one

_LIVE_KEY = """
    SELECT tenant_id, mode, is_admin, secret_sha256, extract(epoch FROM expires_at - clock_timestamp())::float8 FROM api_key
    WHERE id = %s AND mode = %s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())"""

_LIVE_KEYS = """
    SELECT id FROM api_key
    WHERE id = ANY(%(ids)s) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())"""

# Ids rise with the times closely enough for a purge: the first entry that is too young ends the batch.
_DELETE_AUDIT_ENTRIES = """
    WITH old AS MATERIALIZED (
        SELECT id, at FROM audit_entry ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    )
    DELETE FROM audit_entry USING old WHERE audit_entry.id = old.id AND old.at <= (SELECT clock_timestamp()) - %(age)s"""


@dataclass(frozen=True)
class LiveKey:
    """A key that is neither revoked nor expired by the database's clock. Fields in the order of the query's columns."""

    tenant_id: int
    mode: str
    is_admin: bool
    secret_sha256: bytes
    seconds_left: float | None  # until it expires; None: it does not expire


def find_live_key(*, key_id: str, mode: str) -> LiveKey | None:
    """Return the live key with that id, if any. One row by primary key; locks nothing."""
    row = read_one(_LIVE_KEY, key_id, mode)
    return LiveKey(*row) if row else None


def live_key_ids(key_ids: Collection[str]) -> set[str]:
    """Return which of the keys are live: for requests that stay open. Rows by primary key; locks nothing."""
    return {key_id for (key_id,) in fetch_all(_LIVE_KEYS, ids=sorted(key_ids))}


def delete_audit_entries(*, age: timedelta, limit: int) -> int:
    """Delete those of the `limit` oldest entries that are older than `age`; return how many. Served by audit_entry_pkey."""
    return execute(_DELETE_AUDIT_ENTRIES, age=age, limit=limit)
