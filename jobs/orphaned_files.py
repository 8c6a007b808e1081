"""Files that are no artifacts, or no longer, leave storage; what is left of a crash goes the same way."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from django.db import transaction

from jobs import artifact_storage
from jobs.queries.artifacts import (
    expire_artifacts,
    forget_files,
    is_published,
    postpone_removal,
    removable_files,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from uuid import UUID

log = structlog.get_logger(__name__)

# Each may be a request to another machine: a batch takes seconds even there.
_FILES_AT_ONCE = 50
# One that cannot be removed must not stand before all others, nor be tried every minute.
_PAUSE = timedelta(hours=1)


def expire_batches(limit: int) -> Iterator[int]:
    """Artifacts whose time is over are stray files, `limit` a transaction; yields how many."""
    while True:
        expired = expire_artifacts(limit)
        yield expired
        if expired < limit:
            return


def remove_batches() -> Iterator[int]:
    """Stray files whose time has come are gone, a batch a step; yields how many. Ends early where the storage fails.

    Dying between a file and its row, or two purges at once: the file is removed a second time, which changes nothing.
    """
    while True:
        batch = removable_files(_FILES_AT_ONCE)
        removed = _remove(batch)
        yield removed
        if removed < _FILES_AT_ONCE:
            return


def remove_soon(storage_names: Collection[str]) -> None:
    """Once this transaction is committed the stray files are gone; where that fails, the purge comes to them."""
    if storage_names:
        transaction.on_commit(lambda: _remove(storage_names), robust=True)


def remove_unpublished(*, job_id: UUID, name: str, storage_name: str) -> None:
    """The file is gone, unless it is the artifact after all. Asked by the one attempt that could have published it.

    So even a file that was stored after the purge had forgotten it, by a process that was frozen for that long, goes.
    """
    if not is_published(job_id=job_id, name=name, storage_name=storage_name):
        _remove([storage_name])


def _remove(storage_names: Collection[str]) -> int:
    """Files first, then their rows; up to the first failure. Never inside a transaction."""
    removed: list[str] = []
    failed = None
    for name in storage_names:
        try:
            artifact_storage.remove(name)
        except Exception:
            log.exception("artifact.not_removed", storage_name=name)
            failed = name
            break
        removed.append(name)
    if removed:
        forget_files(removed)
    if failed is not None:
        postpone_removal(failed, pause=_PAUSE)
    return len(removed)
