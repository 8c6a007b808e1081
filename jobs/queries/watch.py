"""The position of watched jobs and their new events. One statement serves all jobs that are watched."""

import json
from collections.abc import Collection, Mapping
from typing import NamedTuple
from uuid import UUID

from foundation.statements import fetch_all
from jobs.models import JobEvent
from jobs.states import State

# LATERAL with a LIMIT: each job is looked up by its key, however long the planner expects the list to be.
_POSITIONS = """
    SELECT watched.id, job.event_seq, job.state
    FROM unnest(%(ids)s::uuid[], %(seqs)s::bigint[]) AS watched (id, seq)
    LEFT JOIN LATERAL (SELECT event_seq, state FROM job WHERE job.id = watched.id LIMIT 1) AS job ON TRUE
    WHERE job.event_seq IS NULL OR job.event_seq > watched.seq"""

_EVENTS = """
    SELECT known.id, known.seq, event.seq, event.type, event.attempt, event.data, event.created_at
    FROM unnest(%(ids)s::uuid[], %(seqs)s::bigint[]) AS known (id, seq)
    CROSS JOIN LATERAL (
        SELECT seq, type, attempt, data, created_at FROM job_event
        WHERE job_event.job_id = known.id AND job_event.seq > known.seq
        ORDER BY job_event.seq LIMIT %(limit)s
    ) AS event
    ORDER BY known.id, known.seq, event.seq"""


class Position(NamedTuple):
    """The number of a job's latest event, and its state after it. Without a state the job has been purged."""

    seq: int
    state: State | None

    @property
    def is_settled(self) -> bool:
        """Whether a `?wait` is answered now."""
        return self.state is None or self.state.is_settled

    @property
    def is_over(self) -> bool:
        """Whether a stream ends. An `unknown` job continues: its verdict is an event."""
        return self.state is None or self.state.is_terminal


def positions_after(known: Mapping[UUID, int]) -> dict[UUID, Position]:
    """Return the jobs that have an event after the known one or are gone; empty if nothing happened.

    One statement, one look-up in job_pkey per job; locks nothing. State and number are of one snapshot.
    """
    rows = fetch_all(_POSITIONS, ids=list(known), seqs=list(known.values()))
    return {job_id: Position(0, None) if state is None else Position(seq, State(state)) for job_id, seq, state in rows}


def events_after(known: Collection[tuple[UUID, int]], *, limit: int) -> dict[tuple[UUID, int], list[JobEvent]]:
    """Return for each job and number the events after that number, oldest first, at most `limit` per job.

    One statement; each job's events are a range of job_event's primary key. Locks nothing.
    """
    events: dict[tuple[UUID, int], list[JobEvent]] = {key: [] for key in known}
    ids, seqs = [job_id for job_id, _ in known], [seq for _, seq in known]
    for job_id, after, seq, kind, attempt, data, created_at in fetch_all(_EVENTS, ids=ids, seqs=seqs, limit=limit):
        events[job_id, after].append(
            JobEvent(job_id=job_id, seq=seq, type=kind, attempt=attempt, data=json.loads(data), created_at=created_at)
        )
    return events
