"""What the self-audit asks of the rows: each statement returns those that break one rule. Reads only; no lock, no payload.

All of one batch are asked in one snapshot (`one_snapshot`): a job that changes meanwhile is seen as it was, and whole.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connection, transaction

from jobs.ids import lowest_id
from jobs.states import RULES, TERMINAL, Event, State

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime, timedelta

_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
LAST_ID = UUID(int=2**128 - 1)

_ACCEPTED = """
    SELECT id, created_at FROM job WHERE id >= %(first)s AND id < %(before)s AND created_at >= %(since)s
    ORDER BY id DESC LIMIT %(limit)s"""
_ENDED = """
    SELECT id, finished_at FROM job
    WHERE finished_at >= %(since)s AND finished_at <= %(before_at)s AND (finished_at, id) < (%(before_at)s, %(before)s)
    ORDER BY finished_at DESC, id DESC LIMIT %(limit)s"""

# The counts on the job's row are those of its steps; what was undone, or undoes, is not counted.
_EFFECTS = """
    SELECT job.id, jsonb_build_object(
        'open', job.open_effects, 'started', told.started, 'done', job.done_effects, 'recorded', told.done)
    FROM job CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE state = 'started') AS started,
               count(*) FILTER (WHERE state = 'done' AND undoes IS NULL) AS done
        FROM job_step WHERE job_id = job.id AND kind = 'effect'
    ) AS told
    WHERE job.id = ANY(%(ids)s) AND (job.open_effects, job.done_effects) IS DISTINCT FROM (told.started, told.done)"""
_ENDED_OPEN = """
    SELECT id, jsonb_build_object('open', open_effects, 'state', state) FROM job
    WHERE id = ANY(%(ids)s) AND state = ANY(%(terminal)s) AND open_effects > 0"""
# jobs.operations.downstream_key, in SQL: it holds the job, so that those of two jobs differ.
_KEYS = """
    SELECT job_id, jsonb_build_object('step', name, 'generation', generation) FROM job_step
    WHERE job_id = ANY(%(ids)s) AND kind = 'effect'
      AND downstream_key IS DISTINCT FROM 'semel-' || job_id || '-' || name || '-' || generation"""
# Of two jobs of one key, both of which go on, one should never have been accepted; one that was redriven after the other had
# ended may stand beside it.
_TWINS = """
    SELECT job.id, jsonb_build_object('other', other.id) FROM job JOIN job AS other
        ON other.tenant_id = job.tenant_id AND other.mode = job.mode
        AND other.idempotency_key = job.idempotency_key AND other.id < job.id
    WHERE job.id = ANY(%(ids)s) AND other.idempotency_key IS NOT NULL
      AND job.state <> ALL(%(terminal)s) AND other.state <> ALL(%(terminal)s)"""
_ATTEMPTS = """
    SELECT job.id, jsonb_build_object('attempt', job.attempt, 'attempts', told.count, 'last', told.last, 'open', told.open)
    FROM job CROSS JOIN LATERAL (
        SELECT count(*) AS count, COALESCE(max(number), 0) AS last, count(*) FILTER (WHERE ended_at IS NULL) AS open,
               count(*) FILTER (WHERE ended_at IS NULL AND number <> job.attempt) AS stale
        FROM job_attempt WHERE job_id = job.id
    ) AS told
    WHERE job.id = ANY(%(ids)s) AND (
        told.count <> job.attempt OR told.last <> job.attempt OR told.stale > 0 OR told.open <> (job.state = 'running')::int)"""
_EVENTS = """
    SELECT job.id, jsonb_build_object('event_seq', job.event_seq, 'events', told.count, 'last', told.last)
    FROM job CROSS JOIN LATERAL (
        SELECT count(*) AS count, COALESCE(max(seq), 0) AS last FROM job_event WHERE job_id = job.id
    ) AS told
    WHERE job.id = ANY(%(ids)s) AND (told.count <> job.event_seq OR told.last <> job.event_seq)"""
_ORDER = """
    SELECT job_id, jsonb_build_object('seq', seq, 'before', before, 'event', type) FROM (
        SELECT job_id, seq, type, COALESCE(lag(type) OVER (PARTITION BY job_id ORDER BY seq), '') AS before
        FROM job_event WHERE job_id = ANY(%(ids)s) AND type = ANY(%(events)s)
    ) AS told
    WHERE before || '>' || type <> ALL(%(ways)s)"""
_STATE = """
    SELECT job.id, jsonb_build_object('state', job.state, 'event', told.type) FROM job CROSS JOIN LATERAL (
        SELECT type FROM job_event WHERE job_id = job.id AND type = ANY(%(events)s) ORDER BY seq DESC LIMIT 1
    ) AS told
    WHERE job.id = ANY(%(ids)s) AND told.type || '>' || job.state <> ALL(%(ends)s)"""
_FENCE = """
    SELECT job_id, jsonb_build_object('seq', seq, 'attempt', attempt, 'claim', claim) FROM (
        SELECT job_id, seq, attempt, row_number() OVER (PARTITION BY job_id ORDER BY seq) AS claim
        FROM job_event WHERE job_id = ANY(%(ids)s) AND type = 'claim'
    ) AS told
    WHERE attempt <> claim"""
# An attempt that was given back costs nothing; one that only reconciles is beyond the maximum.
_CHARGED = """
    SELECT job.id, jsonb_build_object('claims', told.claims, 'given_back', told.given_back, 'max_attempts', job.max_attempts)
    FROM job CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE type = 'claim') AS claims, count(*) FILTER (WHERE type = 'postpone') AS given_back
        FROM job_event WHERE job_id = job.id AND seq >= (
            SELECT max(seq) FROM job_event WHERE job_id = job.id AND type IN ('submit', 'redrive', 'resolve'))
    ) AS told
    WHERE job.id = ANY(%(ids)s) AND told.claims - told.given_back > job.max_attempts + job.reconcile_only::int"""
_LARGE = """
    SELECT id, jsonb_build_object('result_bytes', octet_length(result)) FROM job
    WHERE id = ANY(%(ids)s) AND octet_length(result) > %(result_max_bytes)s"""

# By invariant and rule, as a violation names them.
JOB_RULES: Mapping[tuple[str, str], str] = {
    ("I1", "effects-counted"): _EFFECTS,
    ("I1", "ended-with-open-effect"): _ENDED_OPEN,
    ("I1", "downstream-key"): _KEYS,
    ("I3", "two-jobs-of-one-key"): _TWINS,
    ("I4", "attempts-gap-free"): _ATTEMPTS,
    ("I4", "events-gap-free"): _EVENTS,
    ("I4", "events-in-order"): _ORDER,
    ("I4", "state-has-its-event"): _STATE,
    ("I4", "fence-rises"): _FENCE,
    ("I5", "attempts-bounded"): _CHARGED,
    ("I10", "result-size"): _LARGE,
}

_JOBS_OF = (
    "SELECT id, tenant_id, mode, idempotency_key, idempotency_record_id FROM job WHERE id = ANY(%(ids)s)"
)
_OVERDUE_JOBS = """
    SELECT id, finished_at, idempotency_record_id FROM job WHERE finished_at <= (SELECT clock_timestamp()) - %(age)s
    ORDER BY finished_at, id LIMIT %(limit)s"""


@contextmanager
def one_snapshot() -> Iterator[None]:
    """What is read in the block is how things stood at one instant; nothing can be written, and nobody is waited for."""
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute(_SNAPSHOT)
        yield


def accepted_since(since: datetime, *, before: UUID, limit: int) -> list[UUID]:
    """The next jobs that were accepted since then, the newest first, older than `before`. By job_pkey: an id holds a time."""
    values = {"since": since, "first": lowest_id(since), "before": before, "limit": limit}
    return [job_id for job_id, _ in _fetch(_ACCEPTED, values)]


def ended_since(since: datetime, *, before: tuple[datetime, UUID], limit: int) -> list[tuple[UUID, datetime]]:
    """The next jobs that ended since then, the last first, earlier than `before`. Served by job_ended."""
    values = {"since": since, "before_at": before[0], "before": before[1], "limit": limit}
    return _fetch(_ENDED, values)


def broken_jobs(
    rule: tuple[str, str], ids: Sequence[UUID], *, result_max_bytes: int
) -> list[tuple[UUID, str]]:
    """Those of the jobs that break the rule, with JSON of what was found.

    Served by the primary keys, all of which begin with a job's id; the twins of a key by job_list_by_key.
    """
    values = {
        "ids": list(ids),
        "terminal": sorted(TERMINAL),
        "events": [event.value for event in Event],
        "ways": _ways(),
        "ends": _ends(),
        "result_max_bytes": result_max_bytes,
    }
    return _fetch(JOB_RULES[rule], values)


def owners_of(ids: Sequence[UUID]) -> dict[UUID, tuple[int, str, str | None, int | None]]:
    """Tenant, mode, key and record of each of the jobs that there are. By job_pkey."""
    return {job_id: (*rest,) for job_id, *rest in _fetch(_JOBS_OF, {"ids": list(ids)})}


def overdue_jobs(*, age: timedelta, limit: int) -> list[tuple[UUID, datetime, int | None]]:
    """The jobs that ended longest ago, at least so long, with their records. Served by job_ended."""
    return _fetch(_OVERDUE_JOBS, {"age": age, "limit": limit})


def _leads_to(event: Event) -> set[State]:
    """The states in which a job may be after an event of this name."""
    submitted = {State.QUEUED} if event is Event.SUBMIT else set()
    return submitted | {rule.target for rule in RULES if rule.recorded_as is event}


def _ways() -> list[str]:
    """Which event may follow which: `claim>succeed`. The table of states is asked, so that there is no second one to drift."""
    leaves = {
        event: {state for rule in RULES if rule.recorded_as is event for state in rule.sources}
        for event in Event
    }
    ways = [f"{first}>{then}" for first in Event for then in Event if _leads_to(first) & leaves[then]]
    return [f">{Event.SUBMIT}", *ways]


def _ends() -> list[str]:
    """In which state each event may leave a job: `succeed>succeeded`."""
    return [f"{event}>{state}" for event in Event for state in sorted(_leads_to(event))]


def _fetch(statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows
