"""What waiting asks: where the watched jobs stand, and what has happened to them. Each question is for all of them at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import connection

from jobs.models import JobEvent
from jobs.states import State

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from uuid import UUID

# LATERAL with a LIMIT: each job is looked up by its key, whatever the planner thinks of the length of the list.
_POSITIONS = """
    SELECT watched.id, job.event_seq, job.state
    FROM unnest(%(ids)s::uuid[], %(seqs)s::bigint[]) AS watched (id, seq)
    LEFT JOIN LATERAL (SELECT event_seq, state FROM job WHERE job.id = watched.id LIMIT 1) AS job ON TRUE
    WHERE job.event_seq IS NULL OR job.event_seq > watched.seq"""

_EVENTS = """
    SELECT asked.id, asked.seq, event.seq, event.type, event.attempt, event.data, event.created_at
    FROM unnest(%(ids)s::uuid[], %(seqs)s::bigint[]) AS asked (id, seq)
    CROSS JOIN LATERAL (
        SELECT seq, type, attempt, data, created_at FROM job_event
        WHERE job_event.job_id = asked.id AND job_event.seq > asked.seq
        ORDER BY job_event.seq LIMIT %(limit)s
    ) AS event
    ORDER BY asked.id, asked.seq, event.seq"""


class Position(NamedTuple):
    """How far a job has come: the number of its latest event, and its state after it. No state: the job is gone."""

    seq: int
    state: State | None

    @property
    def is_settled(self) -> bool:
        """Whether a `?wait` is answered now."""
        return self.state is None or self.state.is_settled

    @property
    def is_over(self) -> bool:
        """Whether a stream ends: an `unknown` job has not ended, and what a person says of it is an event."""
        return self.state is None or self.state.is_terminal


def positions_beyond(known: Mapping[UUID, int]) -> dict[UUID, Position]:
    """Those of the jobs that have an event after the known one, or are gone; a quiet second returns nothing.

    One statement, one look at job_pkey for each job; locks nothing. State and number are of one snapshot.
    """
    with connection.cursor() as cursor:
        cursor.execute(_POSITIONS, {"ids": list(known), "seqs": list(known.values())})
        rows = cursor.fetchall()
    return {
        job_id: Position(0, None) if state is None else Position(seq, State(state))
        for job_id, seq, state in rows
    }


def events_beyond(
    asked: Collection[tuple[UUID, int]], *, limit: int
) -> dict[tuple[UUID, int], list[JobEvent]]:
    """For each job and number the events after that number, oldest first, at most `limit` of each.

    One statement; each job's events are a range of job_event's primary key. Locks nothing.
    """
    values: dict[str, Any] = {
        "ids": [job_id for job_id, _ in asked],
        "seqs": [seq for _, seq in asked],
        "limit": limit,
    }
    found: dict[tuple[UUID, int], list[JobEvent]] = {key: [] for key in asked}
    with connection.cursor() as cursor:
        cursor.execute(_EVENTS, values)
        for job_id, after, seq, kind, attempt, data, created_at in cursor.fetchall():
            event = JobEvent(
                job_id=job_id,
                seq=seq,
                type=kind,
                attempt=attempt,
                data=json.loads(data),
                created_at=created_at,
            )
            found[job_id, after].append(event)
    return found
