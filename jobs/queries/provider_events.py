"""What others say happened, in a job's history; and which jobs in doubt it would settle."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import connection

from jobs.queries.history import append_event

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

# The name in a history of what somebody outside said.
WORD = "provider-event"

_TOLD = """
    SELECT job.id, step.name, word.data
    FROM job
    JOIN job_step AS step ON step.job_id = job.id AND step.state = 'started'
    CROSS JOIN LATERAL (
        SELECT data FROM job_event
        WHERE job_event.job_id = job.id AND job_event.type = %(type)s
          AND job_event.data ->> 'key' = step.downstream_key AND job_event.data ? 'result'
        ORDER BY seq LIMIT 1
    ) AS word
    WHERE job.state = 'unknown'
    ORDER BY job.id DESC
    LIMIT %(limit)s"""


@dataclass(frozen=True)
class ToldJob:
    """A job in doubt whose history holds the answer. Fields in the order of the query's columns."""

    job_id: UUID
    step: str
    data: Mapping[str, Any]


def append_provider_event(*, job_id: UUID, data: Mapping[str, Any]) -> None:
    """The job's history says what was said, whatever state it is in; nothing else changes. Locks the job's row."""
    append_event(job_id=job_id, type=WORD, attempt=0, data=data)


def find_told_jobs(*, limit: int) -> list[ToldJob]:
    """Unknown jobs with a word in their history on the very effect that is in doubt; the newest first.

    By job_in_trouble, which holds the unknown ones, then by primary keys. Locks nothing: who acts upon it asks again.
    """
    with connection.cursor() as cursor:
        cursor.execute(_TOLD, {"type": WORD, "limit": limit})
        return [ToldJob(job_id, step, json.loads(data)) for job_id, step, data in cursor.fetchall()]
