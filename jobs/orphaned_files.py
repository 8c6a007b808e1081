"""Remove orphaned files from storage: expired and discarded artifacts, and files that a crashed attempt left."""

from collections.abc import Collection, Iterator
from datetime import timedelta
from uuid import UUID

import structlog
from django.db import transaction

from jobs import artifact_storage
from jobs.queries.artifacts import (
    delete_orphaned_files,
    expire_artifacts,
    is_published,
    postpone_removal,
    removable_files,
)

log = structlog.get_logger(__name__)

# Each may be a request to another machine: a batch takes seconds even there.
_FILES_AT_ONCE = 50
# A file that cannot be removed must not block the others, nor be tried every minute.
_RETRY_AFTER = timedelta(hours=1)


def expire_batches(limit: int) -> Iterator[int]:
    """Turn expired artifacts into orphaned files, `limit` a transaction; yield the count of each batch."""
    while True:
        expired = expire_artifacts(limit)
        yield expired
        if expired < limit:
            return


def remove_batches() -> Iterator[int]:
    """Remove the orphaned files that are due; yield the count of each batch. Ends early where the storage fails.

    A crash between file and row, or two purges at once, remove a file twice, which changes nothing.
    """
    while True:
        removed = _remove(removable_files(_FILES_AT_ONCE))
        yield removed
        if removed < _FILES_AT_ONCE:
            return


def remove_on_commit(storage_names: Collection[str]) -> None:
    """Remove these orphaned files after this transaction; where that fails, the purge removes them."""
    if storage_names:
        transaction.on_commit(lambda: _remove(storage_names), robust=True)


def remove_unpublished(*, job_id: UUID, name: str, storage_name: str) -> None:
    """Remove the attempt's file unless it was published. Called by the one attempt that could publish it.

    It also removes a file that a frozen process stored after the purge had forgotten it.
    """
    if not is_published(job_id=job_id, name=name, storage_name=storage_name):
        _remove([storage_name])


def _remove(storage_names: Collection[str]) -> int:
    """Remove files, then their rows, up to the first failure. Never inside a transaction."""
    removed: list[str] = []
    for name in storage_names:
        try:
            artifact_storage.remove(name)
        except Exception:
            log.exception("artifact.not_removed", storage_name=name)
            postpone_removal(name, pause=_RETRY_AFTER)
            break
        removed.append(name)
    if removed:
        delete_orphaned_files(removed)
    return len(removed)
