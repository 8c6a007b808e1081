"""The audit log: what operators did, and why. Entries are added, never changed."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction

from accounts.models import AuditEntry
from accounts.queries import delete_audit_entries

# Characters of a note that are kept: a paragraph.
_NOTE_MAX = 2_000


def record(
    *, actor: str, action: str, subject: str, note: str = "", details: Mapping[str, Any] | None = None
) -> AuditEntry:
    """Add an entry in the transaction of the action that it describes, so that both commit or neither.

    actor: "user ada", "api key <id>" or "command". subject: "job/<id>", "tenant/<name>", … details: names and numbers as
    JSON, never a payload or a secret. Raises RuntimeError outside of a transaction.
    """
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("Record an audit entry in the transaction of the action that it describes.")
    return AuditEntry.objects.create(
        actor=_storable(actor)[: AuditEntry.NAME_MAX],
        action=action,
        subject=_storable(subject)[: AuditEntry.SUBJECT_MAX],
        note=_storable(note)[:_NOTE_MAX],
        details=dict(details or {}),
    )


def purge_entries(limit: int) -> Iterator[int]:
    """Delete entries older than AUDIT_RETENTION_SECONDS, oldest first; yield the count of each batch.

    A trigger refuses to delete entries younger than 90 days, whatever the setting is.
    """
    while True:
        deleted = delete_audit_entries(age=timedelta(seconds=settings.AUDIT_RETENTION_SECONDS), limit=limit)
        yield deleted
        if deleted < limit:
            return


def _storable(text: str) -> str:
    """Return the text without U+0000 and lone surrogates, which PostgreSQL and UTF-8 cannot store."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()
