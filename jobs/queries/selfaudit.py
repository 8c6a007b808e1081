"""The statements of the self-audit: each returns the rows that break one rule. They take no lock and return no payload.

All statements of a batch run in one snapshot (`one_snapshot`), so that a job that changes meanwhile is seen in one state.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction

from foundation.statements import execute, fetch_all
from jobs.ids import lowest_id
from jobs.states import RULES, TERMINAL, Event, State

_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
LAST_ID = UUID(int=2**128 - 1)

_ACCEPTED = """
    SELECT id, created_at FROM job WHERE id >= %(first)s AND id < %(before)s AND created_at >= %(since)s
    ORDER BY id DESC LIMIT %(limit)s"""
_ENDED = """
    SELECT id, finished_at FROM job
    WHERE finished_at >= %(since)s AND finished_at <= %(before_at)s AND (finished_at, id) < (%(before_at)s, %(before)s)
    ORDER BY finished_at DESC, id DESC LIMIT %(limit)s"""

# The counts in the job's row equal those of its steps; compensated steps and compensations do not count.
_EFFECTS = """
    SELECT job.id, jsonb_build_object(
        'open', job.open_effects, 'started', seen.started, 'done', job.done_effects, 'recorded', seen.done)
    FROM job CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE state = 'started') AS started,
               count(*) FILTER (WHERE state = 'done' AND undoes IS NULL) AS done
        FROM job_step WHERE job_id = job.id AND kind = 'effect'
    ) AS seen
    WHERE job.id = ANY(%(ids)s) AND (job.open_effects, job.done_effects) IS DISTINCT FROM (seen.started, seen.done)"""
_ENDED_OPEN = """
    SELECT id, jsonb_build_object('open', open_effects, 'state', state) FROM job
    WHERE id = ANY(%(ids)s) AND state = ANY(%(terminal)s) AND open_effects > 0"""
# jobs.operations.downstream_key in SQL: the key contains the job's id, so that two jobs never share one.
_KEYS = """
    SELECT job_id, jsonb_build_object('step', name, 'generation', generation) FROM job_step
    WHERE job_id = ANY(%(ids)s) AND kind = 'effect'
      AND downstream_key IS DISTINCT FROM 'semel-' || job_id || '-' || name || '-' || generation"""
_ATTEMPTS = """
    SELECT job.id, jsonb_build_object('attempt', job.attempt, 'attempts', seen.count, 'last', seen.last, 'open', seen.open)
    FROM job CROSS JOIN LATERAL (
        SELECT count(*) AS count, COALESCE(max(number), 0) AS last, count(*) FILTER (WHERE ended_at IS NULL) AS open,
               count(*) FILTER (WHERE ended_at IS NULL AND number <> job.attempt) AS stale
        FROM job_attempt WHERE job_id = job.id
    ) AS seen
    WHERE job.id = ANY(%(ids)s) AND (
        seen.count <> job.attempt OR seen.last <> job.attempt OR seen.stale > 0 OR seen.open <> (job.state = 'running')::int)"""
_EVENTS = """
    SELECT job.id, jsonb_build_object('event_seq', job.event_seq, 'events', seen.count, 'last', seen.last)
    FROM job CROSS JOIN LATERAL (
        SELECT count(*) AS count, COALESCE(max(seq), 0) AS last FROM job_event WHERE job_id = job.id
    ) AS seen
    WHERE job.id = ANY(%(ids)s) AND (seen.count <> job.event_seq OR seen.last <> job.event_seq)"""
_ORDER = """
    SELECT job_id, jsonb_build_object('seq', seq, 'before', before, 'event', type) FROM (
        SELECT job_id, seq, type, COALESCE(lag(type) OVER (PARTITION BY job_id ORDER BY seq), '') AS before
        FROM job_event WHERE job_id = ANY(%(ids)s) AND type = ANY(%(events)s)
    ) AS seen
    WHERE before || '>' || type <> ALL(%(sequences)s)"""
_STATE = """
    SELECT job.id, jsonb_build_object('state', job.state, 'event', seen.type) FROM job CROSS JOIN LATERAL (
        SELECT type FROM job_event WHERE job_id = job.id AND type = ANY(%(events)s) ORDER BY seq DESC LIMIT 1
    ) AS seen
    WHERE job.id = ANY(%(ids)s) AND seen.type || '>' || job.state <> ALL(%(results)s)"""
_FENCE = """
    SELECT job_id, jsonb_build_object('seq', seq, 'attempt', attempt, 'claim', claim) FROM (
        SELECT job_id, seq, attempt, row_number() OVER (PARTITION BY job_id ORDER BY seq) AS claim
        FROM job_event WHERE job_id = ANY(%(ids)s) AND type = 'claim'
    ) AS seen
    WHERE attempt <> claim"""
# A postponed attempt is not charged; the one attempt that only reconciles is beyond max_attempts.
_CHARGED = """
    SELECT job.id, jsonb_build_object('claims', seen.claims, 'postponed', seen.postponed, 'max_attempts', job.max_attempts)
    FROM job CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE type = 'claim') AS claims, count(*) FILTER (WHERE type = 'postpone') AS postponed
        FROM job_event WHERE job_id = job.id AND seq >= (
            SELECT max(seq) FROM job_event WHERE job_id = job.id AND type IN ('submit', 'redrive', 'resolve'))
    ) AS seen
    WHERE job.id = ANY(%(ids)s) AND seen.claims - seen.postponed > job.max_attempts + job.reconcile_only::int"""
_LARGE = """
    SELECT id, jsonb_build_object('result_bytes', octet_length(result)) FROM job
    WHERE id = ANY(%(ids)s) AND octet_length(result) > %(result_max_bytes)s"""

# By invariant and rule, as in a violation.
JOB_RULES: Mapping[tuple[str, str], str] = {
    ("I1", "effects-counted"): _EFFECTS,
    ("I1", "ended-with-open-effect"): _ENDED_OPEN,
    ("I1", "downstream-key"): _KEYS,
    ("I4", "attempts-gap-free"): _ATTEMPTS,
    ("I4", "events-gap-free"): _EVENTS,
    ("I4", "events-in-order"): _ORDER,
    ("I4", "state-has-its-event"): _STATE,
    ("I4", "fence-rises"): _FENCE,
    ("I5", "attempts-bounded"): _CHARGED,
    ("I10", "result-size"): _LARGE,
}

_JOBS_OF = "SELECT id, tenant_id, mode, idempotency_key, idempotency_record_id FROM job WHERE id = ANY(%(ids)s)"
_LIVE_KEYS = """
    SELECT id, tenant_id, mode, idempotency_key FROM job
    WHERE id = ANY(%(ids)s) AND idempotency_key IS NOT NULL AND state <> ALL(%(terminal)s)"""
_OVERDUE_JOBS = """
    SELECT id, finished_at, idempotency_record_id FROM job WHERE finished_at <= (SELECT clock_timestamp()) - %(age)s
    ORDER BY finished_at, id LIMIT %(limit)s"""


@contextmanager
def one_snapshot() -> Iterator[None]:
    """Read one snapshot in the block. It cannot write and waits for no lock."""
    with transaction.atomic(durable=True):
        execute(_SNAPSHOT)
        yield


def accepted_since(since: datetime, *, before: UUID, limit: int) -> list[UUID]:
    """Return the next jobs accepted since then, newest first, older than `before`. Served by job_pkey: an id contains a time."""
    rows = fetch_all(_ACCEPTED, since=since, first=lowest_id(since), before=before, limit=limit)
    return [job_id for job_id, _ in rows]


def ended_since(since: datetime, *, before: tuple[datetime, UUID], limit: int) -> list[tuple[UUID, datetime]]:
    """Return the next jobs that ended since then, latest first, earlier than `before`. Served by job_ended."""
    before_at, before_id = before
    return fetch_all(_ENDED, since=since, before_at=before_at, before=before_id, limit=limit)


def broken_jobs(rule: tuple[str, str], ids: Sequence[UUID], *, result_max_bytes: int) -> list[tuple[UUID, str]]:
    """Return those of the jobs that break the rule, with the details as JSON.

    Served by the primary keys, which all begin with a job's id.
    """
    return fetch_all(
        JOB_RULES[rule],
        ids=list(ids),
        terminal=sorted(TERMINAL),
        events=[event.value for event in Event],
        sequences=_legal_sequences(),
        results=_legal_results(),
        result_max_bytes=result_max_bytes,
    )


def owners_of(ids: Sequence[UUID]) -> dict[UUID, tuple[int, str, str | None, int | None]]:
    """Return tenant, mode, key and record of each existing job. Served by job_pkey."""
    return {job_id: (*rest,) for job_id, *rest in fetch_all(_JOBS_OF, ids=list(ids))}


def live_keys(ids: Sequence[UUID]) -> list[tuple[UUID, int, str, str]]:
    """Return id, tenant, mode and key of those jobs that have a key and have not ended. Served by job_pkey."""
    return fetch_all(_LIVE_KEYS, ids=list(ids), terminal=sorted(TERMINAL))


def overdue_jobs(*, age: timedelta, limit: int) -> list[tuple[UUID, datetime, int | None]]:
    """Return the jobs that ended at least `age` ago, oldest first, with their records. Served by job_ended."""
    return fetch_all(_OVERDUE_JOBS, age=age, limit=limit)


def _leads_to(event: Event) -> set[State]:
    """Return the states that a job may have after an event of this name."""
    submitted = {State.QUEUED} if event is Event.SUBMIT else set()
    return submitted | {rule.target for rule in RULES if rule.recorded_as is event}


def _legal_sequences() -> list[str]:
    """Return which event may follow which (`claim>succeed`), derived from states.py so that there is no second table."""
    leaves = {
        event: {state for rule in RULES if rule.recorded_as is event for state in rule.sources} for event in Event
    }
    pairs = [f"{first}>{then}" for first in Event for then in Event if _leads_to(first) & leaves[then]]
    return [f">{Event.SUBMIT}", *pairs]


def _legal_results() -> list[str]:
    """Return the states to which each event may lead (`succeed>succeeded`)."""
    return [f"{event}>{state}" for event in Event for state in sorted(_leads_to(event))]
