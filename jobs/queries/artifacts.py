"""The rows of files. Each file in storage has exactly one row: as an artifact, or before and after that as an orphaned file.

To create a file: begin, store, publish. If the process dies before `begin_file`, nothing is left. Before `publish_file`, an
orphaned file is left: clients cannot read it, and the purge removes it. After `publish_file`, the artifact exists.
To remove a file: discard, remove, delete. If the process dies after `discard_artifacts` or `expire_artifacts`, orphaned files
are left for the purge. A file may be removed twice.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from foundation.statements import execute, fetch_all, fetch_one

_FENCED = "job.id = %(job_id)s AND job.attempt = %(attempt)s AND job.state = 'running'"
# Attempt 0 does not exist, so that no attempt can publish these files again.
_ORPHAN_DELETED = """
    moved AS (
        INSERT INTO orphaned_file (storage_name, job_id, attempt, removable_at)
        SELECT storage_name, job_id, 0, clock_timestamp() FROM deleted
    )"""

# An expired artifact of the same name makes room for the new one.
_BEGIN = f"""
    WITH fenced AS (SELECT id, attempt FROM job WHERE {_FENCED}),
    deleted AS (
        DELETE FROM job_artifact USING fenced
        WHERE job_id = fenced.id AND name = %(name)s AND expires_at <= (SELECT clock_timestamp())
        RETURNING storage_name, job_id
    ), {_ORPHAN_DELETED}
    INSERT INTO orphaned_file (storage_name, job_id, attempt, removable_at)
    SELECT %(storage_name)s, id, attempt, clock_timestamp() + %(grace)s FROM fenced
    ON CONFLICT (storage_name) DO UPDATE SET attempt = EXCLUDED.attempt
    RETURNING 1"""

_PUBLISH = f"""
    WITH fenced AS (SELECT id, attempt FROM job WHERE {_FENCED} FOR NO KEY UPDATE),
    adopted AS (DELETE FROM orphaned_file USING fenced WHERE storage_name = %(storage_name)s)
    INSERT INTO job_artifact (job_id, name, content_type, filename, size, digest, storage_name, attempt, created_at, expires_at)
    SELECT id, %(name)s, %(content_type)s, %(filename)s, %(size)s, %(digest)s, %(storage_name)s, attempt,
        clock.at, clock.at + %(keep)s::interval
    FROM fenced, (SELECT clock_timestamp() AS at) AS clock
    ON CONFLICT (job_id, name) DO UPDATE SET attempt = EXCLUDED.attempt
        WHERE job_artifact.storage_name = EXCLUDED.storage_name
    RETURNING 1"""

_DISCARD = f"""
    WITH deleted AS (
        DELETE FROM job_artifact WHERE job_id = ANY(%(job_ids)s) RETURNING storage_name, job_id
    ), {_ORPHAN_DELETED}
    SELECT storage_name FROM deleted"""

_EXPIRE = f"""
    WITH due AS (
        SELECT job_id, name FROM job_artifact WHERE expires_at <= (SELECT clock_timestamp())
        ORDER BY expires_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ), deleted AS (
        DELETE FROM job_artifact USING due WHERE job_artifact.job_id = due.job_id AND job_artifact.name = due.name
        RETURNING job_artifact.storage_name, job_artifact.job_id
    ), {_ORPHAN_DELETED}
    SELECT storage_name FROM deleted"""

# The fence only rises, so an attempt that is not running now can never publish its file.
_REMOVABLE = """
    SELECT storage_name FROM orphaned_file
    WHERE removable_at <= (SELECT clock_timestamp()) AND NOT EXISTS (
        SELECT FROM job WHERE job.id = orphaned_file.job_id AND job.attempt = orphaned_file.attempt AND job.state = 'running')
    ORDER BY removable_at LIMIT %(limit)s"""

_DELETE_ROWS = "DELETE FROM orphaned_file WHERE storage_name = ANY(%(storage_names)s)"

_POSTPONE = """
    UPDATE orphaned_file SET removable_at = clock_timestamp() + %(pause)s WHERE storage_name = %(storage_name)s"""

_IS_PUBLISHED = """
    SELECT 1 FROM job_artifact WHERE job_id = %(job_id)s AND name = %(name)s AND storage_name = %(storage_name)s"""


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A complete file in storage, and the properties of its artifact."""

    name: str
    content_type: str
    filename: str
    keep: timedelta | None
    size: int
    digest: bytes
    storage_name: str


def begin_file(*, job_id: UUID, attempt: int, name: str, storage_name: str, grace: timedelta) -> bool:
    """Record the file before it is stored; False if the attempt is stale. May be repeated. Locks no job.

    The purge removes it after `grace` unless it has become an artifact or its attempt still runs.
    """
    row = fetch_one(_BEGIN, job_id=job_id, attempt=attempt, name=name, storage_name=storage_name, grace=grace)
    return row is not None


def publish_file(*, job_id: UUID, attempt: int, file: StoredFile) -> bool:
    """Make the stored file the job's artifact; False if the attempt is stale. Locks the job's row.

    The attempt may repeat it, because the reply to the first COMMIT can be lost.
    """
    return fetch_one(_PUBLISH, job_id=job_id, attempt=attempt, **vars(file)) is not None


def discard_artifacts(job_ids: Collection[UUID]) -> list[str]:
    """Turn the artifacts of these jobs into orphaned files and return their storage names. The caller has locked the jobs.

    Served by job_artifact_pkey.
    """
    return [name for (name,) in fetch_all(_DISCARD, job_ids=list(job_ids))]


def expire_artifacts(limit: int) -> int:
    """Turn up to `limit` expired artifacts into orphaned files and return their number. Skips locked artifacts.

    Served by job_artifact_by_expiry.
    """
    return len(fetch_all(_EXPIRE, limit=limit))


def removable_files(limit: int) -> list[str]:
    """Return orphaned files that are due for removal and that no attempt can publish any more. Locks nothing."""
    return [name for (name,) in fetch_all(_REMOVABLE, limit=limit)]


def is_published(*, job_id: UUID, name: str, storage_name: str) -> bool:
    """Return whether this very file is the job's artifact of that name. Locks nothing."""
    return fetch_one(_IS_PUBLISHED, job_id=job_id, name=name, storage_name=storage_name) is not None


def delete_orphaned_files(storage_names: Collection[str]) -> None:
    """Delete the rows of files that have left storage."""
    execute(_DELETE_ROWS, storage_names=list(storage_names))


def postpone_removal(storage_name: str, *, pause: timedelta) -> None:
    """Try the file again after the pause, after all others."""
    execute(_POSTPONE, storage_name=storage_name, pause=pause)
