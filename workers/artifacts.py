"""The files of one attempt: written on this machine, stored whole, then published under the fence (JobHandle.artifact).

Dying while `write` runs leaves nothing: the file has no name. While it is stored, or before it is published: a stray file
that nobody sees and the purge removes. After that: an artifact, which the next attempt finds and does not make again.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import IO, TYPE_CHECKING, Any

import structlog
from django.conf import settings

from foundation.fault_points import reach
from jobs import artifact_storage
from jobs.operations import ARTIFACT_NAME, Artifact, LeaseLost, PermanentError
from jobs.orphaned_files import remove_unpublished
from jobs.queries.artifacts import StoredFile, begin_file, publish_file
from jobs.selectors import artifacts_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobs.models import Job, JobArtifact
    from workers.lease import Lease

log = structlog.get_logger(__name__)

_CONTENT_TYPE = re.compile(r"[a-z0-9.+-]+/[a-z0-9.+-]+(; ?[a-z0-9-]+=[A-Za-z0-9.+_-]+)*", re.ASCII)
_CONTENT_TYPE_MAX = _FILENAME_MAX = 200


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What an operation says of a file before it is there. Raises ValueError for what no client could be told."""

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
            raise ValueError(f"A file name is no path: {self.filename!r}.")
        if self.keep is not None and self.keep <= timedelta(0):
            raise ValueError(f"An artifact is kept for more than no time, not {self.keep}.")


class Artifacts:
    """The artifacts that this attempt makes, and those that it finds."""

    def __init__(self, *, job: Job, lease: Lease) -> None:
        self._job = job
        self._lease = lease
        self._known: dict[str, Artifact] | None = None

    def make(self, draft: Draft, write: Callable[[IO[bytes]], object], check: Callable[[], None]) -> Artifact:
        """The artifact, from this call or an earlier attempt. Raises what `write` raises, and then there is none."""
        known = self._found_before()
        if draft.name in known:
            return known[draft.name]
        if len(known) >= settings.ARTIFACTS_MAX:
            raise PermanentError(
                f"A job has at most {settings.ARTIFACTS_MAX} artifacts.", code="too-many-artifacts"
            )
        with tempfile.TemporaryFile() as content:
            _fill(content, write)
            digest = hashlib.file_digest(content, "sha256").digest()
            check()
            known[draft.name] = self._keep(draft, content, digest)
        return known[draft.name]

    def _found_before(self) -> dict[str, Artifact]:
        """What earlier attempts made, read when it is first asked for. A first attempt has no past."""
        if self._known is None:
            look = partial(artifacts_of, [self._job.id])
            found = self._lease.insist(look) if self._job.attempt > 1 else []
            self._known = {one.name: _as_told(one) for one in found}
        return self._known

    def _keep(self, draft: Draft, content: IO[bytes], digest: bytes) -> Artifact:
        held: dict[str, Any] = {"job_id": self._job.id, "attempt": self._job.attempt}
        file = StoredFile(
            **vars(draft),
            size=content.seek(0, os.SEEK_END),
            digest=digest,
            storage_name=artifact_storage.new_storage_name(),
        )
        grace = timedelta(seconds=settings.ORPHAN_FILE_TTL_SECONDS)
        begin = partial(begin_file, **held, name=file.name, storage_name=file.storage_name, grace=grace)
        if not self._lease.insist(begin):
            self._lose(file)
        try:
            artifact_storage.store(file.storage_name, content)
        except BaseException:
            self._clean_up(file)
            raise
        reach("before_artifact")
        # Where this raises nobody knows whether it is published: the row that is there, of the two, decides.
        if not self._lease.insist(partial(publish_file, **held, file=file)):
            self._clean_up(file)
            self._lose(file)
        return Artifact(
            name=file.name, content_type=file.content_type, size=file.size, sha256=file.digest.hex()
        )

    def _lose(self, file: StoredFile) -> None:
        self._lease.lose()
        raise LeaseLost(f"Artifact {file.name!r} was not published: the job is another attempt's.")

    def _clean_up(self, file: StoredFile) -> None:
        """The purge would remove it as well, later."""
        try:
            remove_unpublished(job_id=self._job.id, name=file.name, storage_name=file.storage_name)
        except Exception:
            log.exception("artifact.left_to_purge", storage_name=file.storage_name)


def _fill(content: IO[bytes], write: Callable[[IO[bytes]], object]) -> None:
    """All that `write` wrote is in the file, which is open whatever `write` did with its own hold on it."""
    with os.fdopen(os.dup(content.fileno()), "w+b") as given:
        write(given)
    content.seek(0)


def _as_told(found: JobArtifact) -> Artifact:
    return Artifact(
        name=found.name,
        content_type=found.content_type,
        size=found.size,
        sha256=bytes(found.digest).hex(),
    )
