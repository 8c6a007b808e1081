"""Who did what, and why: the audit log of what operators do. It is added to, and nothing in it is changed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction

from accounts.models import AuditEntry
from accounts.queries import delete_audit_entries

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Characters of a note that are kept: a paragraph.
_NOTE_MAX = 2_000


def record(
    *, actor: str, action: str, subject: str, note: str = "", details: Mapping[str, Any] | None = None
) -> AuditEntry:
    """One more entry, which stands or falls with the surrounding transaction: that of what it tells of.

    actor: "user ada", "api key <id>" or "command". subject: "job/<id>", "tenant/<name>", … details: names and figures as
    JSON, never a payload or a secret. Raises RuntimeError outside of a transaction, where the two could part.
    """
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("An audit entry is written in the transaction of what it tells of.")
    return AuditEntry.objects.create(
        actor=_storable(actor)[: AuditEntry.NAME_MAX],
        action=action,
        subject=_storable(subject)[: AuditEntry.SUBJECT_MAX],
        note=_storable(note)[:_NOTE_MAX],
        details=dict(details or {}),
    )


def purge(limit: int) -> Iterator[int]:
    """Delete the entries older than AUDIT_RETENTION_SECONDS, oldest first, a batch a step; yields how many.

    The database itself refuses to delete one that is younger than 90 days.
    """
    while True:
        deleted = delete_audit_entries(age=timedelta(seconds=settings.AUDIT_RETENTION_SECONDS), limit=limit)
        yield deleted
        if deleted < limit:
            return


def _storable(text: str) -> str:
    """As PostgreSQL and UTF-8 can hold it: no U+0000, no lone surrogate."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()
