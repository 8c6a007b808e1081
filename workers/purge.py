"""The purge: delete what is past its retention, at least as fast as new rows arrive."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import structlog
from django.conf import settings

from accounts import audit
from idempotency import inbox, record_purge
from jobs import job_purge, orphaned_files
from workers import signals
from workers.batches import BatchCounts, interleave_batches

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Counts(BatchCounts):
    """What one purge did."""

    keys_deleted: int = 0
    keys_kept: int = 0  # expired, but their job has not ended
    jobs_deleted: int = 0
    jobs_kept: int = 0  # past retention, but their key has not expired
    messages_deleted: int = 0
    audit_deleted: int = 0
    notices_deleted: int = 0  # bulk actions that finished long ago
    artifacts_deleted: int = 0  # expired
    files_deleted: int = 0  # of artifacts that are gone, or were never published


def run_once(*, seconds: float | None = None) -> Counts:
    """Delete everything past its retention, for at most `seconds`; None means no limit.

    Each batch is one transaction. If the process dies, one batch is rolled back. Two purges at the same time skip each
    other's rows.
    """
    began_at = time.monotonic()
    counts = sum(interleave_batches(*_row_batches(), _file_batches(), seconds=seconds), start=Counts())
    # Again, for files whose rows were deleted after the last look.
    left = None if seconds is None else began_at + seconds - time.monotonic()
    counts = sum(interleave_batches(_file_batches(), seconds=left), start=counts)
    signals.purged.send_robust(sender=None, counts=counts, seconds=time.monotonic() - began_at)
    if not counts.is_empty:
        log.info("purge", **asdict(counts))
    return counts


def _row_batches() -> tuple[Iterator[Counts], ...]:
    limit = settings.BATCH_ROWS
    return (
        # First, because a job may be deleted only after its key.
        (Counts(keys_deleted=batch.deleted, keys_kept=batch.kept) for batch in record_purge.batches(limit)),
        (Counts(jobs_deleted=batch.deleted, jobs_kept=batch.kept) for batch in job_purge.batches(limit)),
        (Counts(messages_deleted=batch.deleted) for batch in inbox.purge_batches(limit)),
        (Counts(audit_deleted=deleted) for deleted in audit.purge_entries(limit)),
        (Counts(notices_deleted=deleted) for deleted in job_purge.bulk_action_batches(limit)),
        (Counts(artifacts_deleted=expired) for expired in orphaned_files.expire_batches(limit)),
    )


def _file_batches() -> Iterator[Counts]:
    return (Counts(files_deleted=removed) for removed in orphaned_files.remove_batches())
