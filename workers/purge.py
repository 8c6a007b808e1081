"""Storage is bounded: what is past its time is deleted, at least as fast as it arrives."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import structlog
from django.conf import settings

from accounts import audit
from idempotency import inbox, record_purge
from jobs import orphaned_files
from jobs import purge as job_purge
from workers import signals
from workers.batches import take_turns

if TYPE_CHECKING:
    from collections.abc import Iterator

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What one purge did."""

    keys_deleted: int = 0
    keys_kept: int = 0  # expired, but their job has not ended
    jobs_deleted: int = 0
    jobs_kept: int = 0  # past retention, but their key has not expired
    messages_deleted: int = 0
    audit_deleted: int = 0
    notices_deleted: int = 0  # bulk actions that were over long ago
    artifacts_deleted: int = 0  # expired
    files_deleted: int = 0  # of artifacts that are gone, or were never published

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            keys_deleted=self.keys_deleted + other.keys_deleted,
            keys_kept=self.keys_kept + other.keys_kept,
            jobs_deleted=self.jobs_deleted + other.jobs_deleted,
            jobs_kept=self.jobs_kept + other.jobs_kept,
            messages_deleted=self.messages_deleted + other.messages_deleted,
            audit_deleted=self.audit_deleted + other.audit_deleted,
            notices_deleted=self.notices_deleted + other.notices_deleted,
            artifacts_deleted=self.artifacts_deleted + other.artifacts_deleted,
            files_deleted=self.files_deleted + other.files_deleted,
        )


def run_once(*, seconds: float | None = None) -> Counts:
    """All that is past its time is gone, or `seconds` are over; None: as long as it takes.

    A batch of each kind by turns, each batch one transaction: dying in one undoes that batch alone, and two purges pass
    each other's rows by. Keys come first: a job whose key goes can go in the same purge. Files come last, each after its rows.
    """
    began_at = time.monotonic()
    rows = (_keys(), _jobs(), _messages(), _audit(), _notices(), _expired_artifacts())
    counts = sum(take_turns(*rows, _files(), seconds=seconds), start=Counts())
    # Once more, of what lost its rows after the last look.
    left = None if seconds is None else began_at + seconds - time.monotonic()
    counts = sum(take_turns(_files(), seconds=left), start=counts)
    signals.purged.send_robust(sender=None, counts=counts, seconds=time.monotonic() - began_at)
    if any(asdict(counts).values()):
        log.info("purge", **asdict(counts))
    return counts


def _keys() -> Iterator[Counts]:
    for counts in record_purge.batches(settings.BATCH_ROWS):
        yield Counts(keys_deleted=counts.deleted, keys_kept=counts.kept)


def _jobs() -> Iterator[Counts]:
    for counts in job_purge.batches(settings.BATCH_ROWS):
        yield Counts(jobs_deleted=counts.deleted, jobs_kept=counts.kept)


def _messages() -> Iterator[Counts]:
    for counts in inbox.purge_batches(settings.BATCH_ROWS):
        yield Counts(messages_deleted=counts.deleted)


def _audit() -> Iterator[Counts]:
    for deleted in audit.purge_entries(settings.BATCH_ROWS):
        yield Counts(audit_deleted=deleted)


def _notices() -> Iterator[Counts]:
    for deleted in job_purge.notices(settings.BATCH_ROWS):
        yield Counts(notices_deleted=deleted)


def _expired_artifacts() -> Iterator[Counts]:
    for expired in orphaned_files.expire_batches(settings.BATCH_ROWS):
        yield Counts(artifacts_deleted=expired)


def _files() -> Iterator[Counts]:
    for removed in orphaned_files.remove_batches():
        yield Counts(files_deleted=removed)
