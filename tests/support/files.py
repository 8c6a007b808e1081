"""Create jobs that make files, and read the storage."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import connection

from jobs.models import JobArtifact, OrphanedFile
from tests.support.downstreams import run
from tests.support.factories import queued_job
from tests.support.scenarios import HOUR
from workers.job_handle import RunningJob
from workers.lease import Lease

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from accounts.models import Tenant
    from jobs.models import Job

CSV = {"content_type": "text/csv"}
LONG_AGO = timedelta(days=2)


def writing(content: bytes) -> Callable[[Any], None]:
    """Return a function that writes these bytes into a file."""
    return lambda file: file.write(content)


def making(content: bytes, name: str = "report.csv", **options: Any) -> Callable[[Any], Any]:
    """Return a script that makes one artifact."""
    artifact_options = {**CSV, **options}
    return lambda job: vars(job.artifact(name, writing(content), **artifact_options))


def job_with_file(tenant: Tenant, script: Any, content: bytes, **options: Any) -> Job:
    """Run a job that makes an artifact, and return it after it has succeeded."""
    job = run(queued_job(tenant, script=script(making(content, **options))).id)
    assert job.state == "succeeded"
    return job


def handle(job: Job) -> RunningJob:
    """Return the handle that the running attempt would pass to `perform`."""
    lease = Lease(job_id=job.id, attempt=job.attempt, time_limit=HOUR, claimed_at=time.monotonic())
    return RunningJob(job=job, lease=lease)


def artifact_of(job: Job, name: str = "report.csv") -> JobArtifact:
    """The row of the job's artifact."""
    return JobArtifact.objects.get(job_id=job.id, name=name)


def stored(folder: Path) -> list[bytes]:
    """Return the content of each file in storage."""
    return [file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()]


def count_orphaned_files() -> int:
    """How many files are known that are no artifacts."""
    return OrphanedFile.objects.count()


def age_orphaned_files(by: timedelta = LONG_AGO) -> None:
    """Move `removable_at` of each orphaned file into the past."""
    _run("UPDATE orphaned_file SET removable_at = removable_at - %s", by)


def age_artifacts(by: timedelta = LONG_AGO) -> None:
    """Move creation and expiry of each artifact into the past."""
    _run("UPDATE job_artifact SET created_at = created_at - %(by)s, expires_at = expires_at - %(by)s", {"by": by})


def _run(statement: str, values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values if isinstance(values, dict) else [values])
