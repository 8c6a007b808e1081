"""The artifacts of one attempt: each is written to a local file, stored whole, then published under the fence.

If the process dies while `write` runs, nothing is left, because the local file has no name. If it dies before the file is
published, an orphaned file is left, and the purge removes it. If it dies later, the next attempt finds the artifact.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import IO, TYPE_CHECKING

import structlog
from django.conf import settings

from foundation.fault_points import reach
from jobs import artifact_storage
from jobs.operations import ARTIFACT_NAME, Artifact, LeaseLost, PermanentError
from jobs.orphaned_files import remove_unpublished
from jobs.queries.artifacts import StoredFile, begin_file, publish_file
from jobs.selectors import artifacts_of

if TYPE_CHECKING:
    from jobs.models import Job, JobArtifact
    from workers.lease import Lease

log = structlog.get_logger(__name__)

_CONTENT_TYPE = re.compile(r"[a-z0-9.+-]+/[a-z0-9.+-]+(; ?[a-z0-9-]+=[A-Za-z0-9.+_-]+)*", re.ASCII)
_CONTENT_TYPE_MAX = _FILENAME_MAX = 200


@dataclass(frozen=True, kw_only=True)
class Draft:
    """An artifact before it is written. Raises ValueError if HTTP could not carry its name or type."""

    name: str
    content_type: str
    filename: str
    keep: timedelta | None

    def __post_init__(self) -> None:
        if not ARTIFACT_NAME.fullmatch(self.name):
            raise ValueError(
                f"An artifact's name is 1 to 100 of A-Z a-z 0-9 . _ -, the first a letter or digit, not {self.name!r}."
            )
        if len(self.content_type) > _CONTENT_TYPE_MAX or not _CONTENT_TYPE.fullmatch(self.content_type):
            raise ValueError(f"A content type is like 'text/csv; charset=utf-8', not {self.content_type!r}.")
        if not 0 < len(self.filename) <= _FILENAME_MAX or not self.filename.isprintable():
            raise ValueError(f"A file name is 1 to 200 printable characters, not {self.filename!r}.")
        if "/" in self.filename or "\\" in self.filename:
            raise ValueError(f"A file name must not contain a path: {self.filename!r}.")
        if self.keep is not None and self.keep <= timedelta(0):
            raise ValueError(f"An artifact must be kept for a positive time, not {self.keep}.")


class Artifacts:
    """The artifacts that this attempt makes or finds."""

    def __init__(self, *, job: Job, lease: Lease) -> None:
        self._job = job
        self._lease = lease
        self._known: dict[str, Artifact] | None = None

    def make(self, draft: Draft, write: Callable[[IO[bytes]], object], check: Callable[[], None]) -> Artifact:
        """Return the artifact of this call or of an earlier attempt. If `write` raises, there is none."""
        known = self._load_known()
        if draft.name in known:
            return known[draft.name]
        if len(known) >= settings.ARTIFACTS_MAX:
            raise PermanentError(f"A job has at most {settings.ARTIFACTS_MAX} artifacts.", code="too-many-artifacts")
        with tempfile.TemporaryFile() as content:
            # A duplicate, so that the file stays open even if `write` closes or wraps it.
            with os.fdopen(os.dup(content.fileno()), "w+b") as duplicate:
                write(duplicate)
            content.seek(0)
            digest = hashlib.file_digest(content, "sha256").digest()
            check()
            known[draft.name] = self._store(draft, content, digest)
        return known[draft.name]

    def _load_known(self) -> dict[str, Artifact]:
        if self._known is None:
            load = partial(artifacts_of, self._job.id)
            # A first attempt has made none before.
            rows = self._lease.retry_write(load) if self._job.attempt > 1 else []
            self._known = {row.name: _from_row(row) for row in rows}
        return self._known

    def _store(self, draft: Draft, content: IO[bytes], digest: bytes) -> Artifact:
        file = StoredFile(
            **vars(draft),
            size=content.seek(0, os.SEEK_END),
            digest=digest,
            storage_name=artifact_storage.new_storage_name(),
        )
        lost = f"Artifact {file.name!r} was not published: the job is another attempt's."
        grace = timedelta(seconds=settings.ORPHAN_FILE_TTL_SECONDS)
        self._lease.fenced_write(begin_file, name=file.name, storage_name=file.storage_name, grace=grace, error=lost)
        try:
            artifact_storage.store(file.storage_name, content)
        except BaseException:
            self._clean_up(file)
            raise
        reach("before_artifact")
        # For any other exception it is unknown whether the file was published. Do not remove it: the purge removes
        # it if it has no row.
        try:
            self._lease.fenced_write(publish_file, file=file, error=lost)
        except LeaseLost:
            self._clean_up(file)
            raise
        return Artifact(name=file.name, content_type=file.content_type, size=file.size, sha256=file.digest.hex())

    def _clean_up(self, file: StoredFile) -> None:
        """Remove the file now. If that fails, the purge removes it later."""
        try:
            remove_unpublished(job_id=self._job.id, name=file.name, storage_name=file.storage_name)
        except Exception:
            log.exception("artifact.left_to_purge", storage_name=file.storage_name)


def _from_row(row: JobArtifact) -> Artifact:
    return Artifact(name=row.name, content_type=row.content_type, size=row.size, sha256=bytes(row.digest).hex())
