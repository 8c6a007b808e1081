"""The rows of files: an artifact's, and a stray file's before and after it. One of the two stands for every file in storage.

Begin, store, publish: dying before `begin_file` leaves nothing; before `publish_file` a stray file, whole or not, that nobody
sees and the purge removes; after it an artifact. Discard, remove, forget: dying after `discard_artifacts` or `expire_artifacts`
leaves stray files, removed by the purge; a file that is removed twice is as gone as one that is removed once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import connection

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import timedelta
    from uuid import UUID

_FENCED = "job.id = %(job_id)s AND job.attempt = %(attempt)s AND job.state = 'running'"
# What was an artifact and will never be one again: no attempt is numbered 0.
_TO_STRAYS = """
    moved AS (
        INSERT INTO stray_file (storage_name, job_id, attempt, removable_at)
        SELECT storage_name, job_id, 0, clock_timestamp() FROM gone
    )"""

# An expired artifact of that name makes room for the new one.
_BEGIN = f"""
    WITH fenced AS (SELECT id, attempt FROM job WHERE {_FENCED}),
    gone AS (
        DELETE FROM job_artifact USING fenced
        WHERE job_id = fenced.id AND name = %(name)s AND expires_at <= (SELECT clock_timestamp())
        RETURNING storage_name, job_id
    ), {_TO_STRAYS}
    INSERT INTO stray_file (storage_name, job_id, attempt, removable_at)
    SELECT %(storage_name)s, id, attempt, clock_timestamp() + %(grace)s FROM fenced
    ON CONFLICT (storage_name) DO UPDATE SET attempt = EXCLUDED.attempt
    RETURNING 1"""

_PUBLISH = f"""
    WITH fenced AS (SELECT id, attempt FROM job WHERE {_FENCED} FOR NO KEY UPDATE),
    known AS (DELETE FROM stray_file USING fenced WHERE storage_name = %(storage_name)s)
    INSERT INTO job_artifact (job_id, name, content_type, filename, size, digest, storage_name, attempt, created_at, expires_at)
    SELECT id, %(name)s, %(content_type)s, %(filename)s, %(size)s, %(digest)s, %(storage_name)s, attempt,
        clock.at, clock.at + %(keep)s::interval
    FROM fenced, (SELECT clock_timestamp() AS at) AS clock
    ON CONFLICT (job_id, name) DO UPDATE SET attempt = EXCLUDED.attempt
        WHERE job_artifact.storage_name = EXCLUDED.storage_name
    RETURNING 1"""

_DISCARD = f"""
    WITH gone AS (
        DELETE FROM job_artifact WHERE job_id = ANY(%(job_ids)s) RETURNING storage_name, job_id
    ), {_TO_STRAYS}
    SELECT storage_name FROM gone"""

_EXPIRE = f"""
    WITH due AS (
        SELECT job_id, name FROM job_artifact WHERE expires_at <= (SELECT clock_timestamp())
        ORDER BY expires_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM job_artifact USING due WHERE job_artifact.job_id = due.job_id AND job_artifact.name = due.name
        RETURNING job_artifact.storage_name, job_artifact.job_id
    ), {_TO_STRAYS}
    SELECT storage_name FROM gone"""

# The fence only rises and a state is left for good: who does not run under this number now never will.
_REMOVABLE = """
    SELECT storage_name FROM stray_file
    WHERE removable_at <= (SELECT clock_timestamp()) AND NOT EXISTS (
        SELECT FROM job WHERE job.id = stray_file.job_id AND job.attempt = stray_file.attempt AND job.state = 'running')
    ORDER BY removable_at LIMIT %(limit)s"""

_FORGET = "DELETE FROM stray_file WHERE storage_name = ANY(%(storage_names)s)"

_POSTPONE = """
    UPDATE stray_file SET removable_at = clock_timestamp() + %(pause)s WHERE storage_name = %(storage_name)s"""

_IS_PUBLISHED = """
    SELECT 1 FROM job_artifact WHERE job_id = %(job_id)s AND name = %(name)s AND storage_name = %(storage_name)s"""


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A whole file in storage, and what its artifact is to be."""

    name: str
    content_type: str
    filename: str
    keep: timedelta | None
    size: int
    digest: bytes
    storage_name: str


def begin_file(*, job_id: UUID, attempt: int, name: str, storage_name: str, grace: timedelta) -> bool:
    """The file that will be stored is known; False where the attempt holds the job no more. May be repeated.

    To be removed after `grace`, unless it has become an artifact by then or its attempt still runs. Locks no job.
    """
    values = {
        "job_id": job_id,
        "attempt": attempt,
        "name": name,
        "storage_name": storage_name,
        "grace": grace,
    }
    return bool(_fetch(_BEGIN, values))


def publish_file(*, job_id: UUID, attempt: int, file: StoredFile) -> bool:
    """The stored file is the job's artifact, and stray no more; False where the attempt holds the job no more.

    May be repeated by the attempt that published it: the reply to the first COMMIT can have been lost. Locks the job's row.
    """
    return bool(_fetch(_PUBLISH, {"job_id": job_id, "attempt": attempt, **vars(file)}))


def discard_artifacts(job_ids: Collection[UUID]) -> list[str]:
    """The jobs have no artifacts any more; returns the names of the files, which are stray now. The caller holds the jobs' rows.

    Served by job_artifact_pkey.
    """
    return _fetch(_DISCARD, {"job_ids": list(job_ids)})


def expire_artifacts(limit: int) -> int:
    """Up to `limit` artifacts whose time is over are stray files now; returns how many. Those locked elsewhere are passed by.

    Served by job_artifact_by_expiry; locks artifacts and waits for nobody.
    """
    return len(_fetch(_EXPIRE, {"limit": limit}))


def removable_files(limit: int) -> list[str]:
    """Stray files whose time has come and of which nobody can make an artifact any more. Locks nothing."""
    return _fetch(_REMOVABLE, {"limit": limit})


def is_published(*, job_id: UUID, name: str, storage_name: str) -> bool:
    """Whether that very file is the job's artifact of that name. Locks nothing."""
    return bool(_fetch(_IS_PUBLISHED, {"job_id": job_id, "name": name, "storage_name": storage_name}))


def forget_files(storage_names: Collection[str]) -> None:
    """The stray files, which are gone from storage, are forgotten."""
    with connection.cursor() as cursor:
        cursor.execute(_FORGET, {"storage_names": list(storage_names)})


def postpone_removal(storage_name: str, *, pause: timedelta) -> None:
    """The stray file is tried again after the pause, behind all others."""
    values: dict[str, Any] = {"storage_name": storage_name, "pause": pause}
    with connection.cursor() as cursor:
        cursor.execute(_POSTPONE, values)


def _fetch(statement: str, values: Mapping[str, Any]) -> list[Any]:
    """The first column of each row."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return [row[0] for row in cursor.fetchall()]
