"""The statement of each rule in states.py: the guarded UPDATE of the job, with its attempt and its event, in one round trip.

Each text is composed once from the constants below; values are always parameters. docs/statements.sql shows them
as rendered.
Instants are `clock_timestamp()`, because `now()` is frozen at the start of the transaction. Conditions use it in a sub-select:
the bare function is volatile and keeps PostgreSQL from using an index.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import cache
from typing import Any

from django.conf import settings

from broker.hints import DueJob
from broker.publisher import publish_hint_on_commit, wake_waiters_on_commit
from jobs.models import Job
from jobs.queries.pauses import PAUSED
from jobs.signals import StateChange, announce_state_change
from jobs.states import Event, Fence, Guard, Rule, State

_NOW = "(SELECT clock_timestamp())"
_SAME_KEY = """other.tenant_id = {0}.tenant_id AND other.mode = {0}.mode
                    AND other.concurrency_key = {0}.concurrency_key AND other.id <> {0}.id"""

GUARDS: Mapping[Guard, str] = {
    Guard.DUE: f"job.run_at <= {_NOW}",
    Guard.ATTEMPTS_LEFT: "job.attempts_left > 0",
    Guard.NO_ATTEMPTS_LEFT: "job.attempts_left = 0",
    Guard.DEADLINE_PASSED: f"job.deadline_at <= {_NOW}",
    # A deadline does not stop a job with an open or done effect: an open effect must be reconciled, a done one
    # completed or undone.
    Guard.DEADLINE_NOT_PASSED: f"""(job.deadline_at IS NULL OR job.deadline_at > {_NOW}
                OR job.open_effects > 0 OR job.done_effects > 0)""",
    # An earlier job blocks later ones while it waits for a retry (attempt > 0), but not before its first run_at.
    # # There are two conditions, each with an index: a single one would read the whole queue to find that no job is running.
    Guard.NOT_BLOCKED: f"""(job.concurrency_key IS NULL OR (
                NOT EXISTS (SELECT FROM job AS other WHERE {_SAME_KEY.format("job")} AND other.state = 'running')
                AND NOT EXISTS (SELECT FROM job AS other WHERE {_SAME_KEY.format("job")} AND other.state = 'queued'
                    AND other.accept_seq < job.accept_seq AND (other.attempt > 0 OR other.run_at <= {_NOW}))))""",
    Guard.NOT_PAUSED: f"NOT {PAUSED}",
    Guard.LEASE_EXPIRED: f"job.lease_expires_at <= {_NOW}",
    Guard.NO_OPEN_EFFECTS: "job.open_effects = 0",
    Guard.OPEN_EFFECTS: "job.open_effects > 0",
    Guard.NO_DONE_EFFECTS: "job.done_effects = 0",
    Guard.CANCEL_REQUESTED: "job.cancel_requested_at IS NOT NULL",
    Guard.NOT_RECONCILE_ONLY: "NOT job.reconcile_only",
    Guard.NOT_ERASED: "job.erased_at IS NULL",
}

_RELEASED = "lease_expires_at = NULL, worker = NULL"
_ENDED = f"finished_at = clock_timestamp(), next_publish_at = NULL, {_RELEASED}"
_NO_ERROR = "error = NULL, error_code = NULL, error_cause = NULL"
# The columns that each target state sets.
_BY_TARGET: Mapping[State, str] = {
    State.RUNNING: """attempt = job.attempt + 1, attempts_left = job.attempts_left - 1, next_publish_at = NULL, publications = 0,
                lease_expires_at = clock_timestamp() + %(lease)s, worker = %(worker)s, started_at = clock_timestamp()""",
    # statement_timestamp: one instant for both columns.
    State.QUEUED: f"""run_at = statement_timestamp() + %(delay)s, next_publish_at = statement_timestamp() + %(delay)s + %(grace)s,
                publications = 0, {_RELEASED}""",
    State.SUCCEEDED: f"result = %(result)s, {_NO_ERROR},\n                {_ENDED}",
    State.FAILED: f"""error = CASE WHEN job.done_effects > 0 THEN %(partial_error)s ELSE %(error)s END::bytea,
                error_code = CASE WHEN job.done_effects > 0 THEN 'partially-done' ELSE %(error_code)s END,
                error_cause = %(error_cause)s,
                {_ENDED}""",
    State.CANCELED: f"{_NO_ERROR}, {_ENDED}",
    State.UNKNOWN: f"""error = %(unknown_error)s, error_code = 'outcome-unknown', error_cause = %(error_cause)s, {_RELEASED}""",
}
# A redrive or a resolve restores attempts, deadline and cancel request to those of a new job; the fence keeps rising.
_RESET = f"""attempts_left = job.max_attempts, reconcile_only = FALSE, deadline_at = NULL, {_NO_ERROR}, result = NULL,
                finished_at = NULL, cancel_requested_at = CASE WHEN %(keep_cancel_request)s THEN job.cancel_requested_at END,
                accept_seq = CASE WHEN job.concurrency_key IS NOT NULL THEN nextval('job_accept_seq') END"""

# A job that leaves the head of its concurrency queue makes the next one due for publication. A job that backs off keeps its place
# and blocks those behind it; those before it may run. SKIP LOCKED: the sweeper publishes a locked row in time, and waiting for it
# with our own row locked would deadlock two jobs that leave at the same time.
_RELEASE_NEXT = f""", head AS MATERIALIZED (
            SELECT first.id, first.run_at FROM changed, LATERAL (
                SELECT other.id, other.run_at FROM job AS other
                WHERE {_SAME_KEY.format("changed")} AND other.state = 'queued'
                  AND (other.attempt > 0 OR other.run_at <= {_NOW})
                  AND (changed.state <> 'queued' OR other.accept_seq < changed.accept_seq)
                ORDER BY other.accept_seq LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
            ) AS first
            WHERE changed.concurrency_key IS NOT NULL
              AND NOT EXISTS (SELECT FROM job AS other WHERE {_SAME_KEY.format("changed")} AND other.state = 'running')
        ), next AS (
            UPDATE job SET next_publish_at = clock_timestamp() + %(publish_grace)s, publications = 0
            FROM head WHERE job.id = head.id AND head.run_at <= {_NOW}
            RETURNING job.id, job.queue
        )
        SELECT changed.*, next.id AS next_id, next.queue AS next_queue FROM changed LEFT JOIN next ON TRUE"""
_RETURN = """
        SELECT * FROM changed"""
_COMMA, _AND = ",\n                ", "\n              AND "


def apply_first_rule(
    rules: Iterable[Rule],
    *,
    event_data: Mapping[str, Any] | None = None,
    grace: timedelta = timedelta(0),
    has_concurrency_key: bool = True,
    **values: Any,  # noqa: ANN401 - the statement's parameters
) -> Job | None:
    """Apply the first of the rules that state, fence and guards allow, and return the job; None if they allow none.

    Locks the job's row (job_pkey), then writes its attempt and event. If two transactions apply rules to one job, the
    second waits
    for the row and checks its conditions again: only one succeeds. If the job leaves its concurrency queue, the statement also
    locks the next job's row (job_concurrency_order), without waiting, and makes that job due for publication.
    grace: how much later than `run_at` the sweeper publishes a job that is queued again.
    has_concurrency_key: pass False if the job is known to have none; planning that part costs a third of the rest.
    Raises IntegrityError if a claim meets a running job of the same concurrency key in the same instant.
    """
    values |= {
        "data": json.dumps(dict(event_data or {})),
        "grace": grace,
        "publish_grace": timedelta(seconds=settings.PUBLISH_GRACE_SECONDS),
    }
    for rule in rules:
        parameters = {
            **values,
            "target": rule.target.value,
            "sources": sorted(source.value for source in rule.sources),
            "recorded_as": rule.recorded_as.value,
        }
        for job in Job.objects.raw(render_rule(rule, has_concurrency_key=has_concurrency_key), parameters):
            next_id, next_queue = (vars(job).pop(name, None) for name in ("next_id", "next_queue"))
            wake_waiters_on_commit(job.id, job.event_seq)
            announce_state_change(_state_change(rule, job))
            if next_id is not None:
                publish_hint_on_commit(DueJob(next_id, next_queue))
            return job
    return None


@cache
def render_rule(rule: Rule, *, has_concurrency_key: bool = True) -> str:
    """Return the statement that applies the rule."""
    changes = ["state = %(target)s", "event_seq = job.event_seq + 1", _BY_TARGET[rule.target]]
    if rule.target is State.QUEUED and rule.event in (Event.REDRIVE, Event.RESOLVE):
        changes.append(_RESET)
    elif rule.event is Event.CANCEL:
        changes.append("cancel_requested_at = COALESCE(job.cancel_requested_at, clock_timestamp())")
    elif rule.reconcile_only:
        changes.append("reconcile_only = TRUE, attempts_left = 1")
    elif rule.target is State.QUEUED and rule.event is Event.POSTPONE:
        changes.append("attempts_left = LEAST(job.attempts_left + 1, job.max_attempts)")
    conditions = ["job.id = %(job_id)s", "job.state = ANY(%(sources)s)", *(GUARDS[guard] for guard in rule.guards)]
    if rule.fence is Fence.CHECKS:
        conditions.append("job.attempt = %(attempt)s")
    if rule.fence is Fence.INCREMENTS:
        conditions.append("job.operation || '@' || job.operation_version = ANY(%(known_operations)s)")
        attempt = """INSERT INTO job_attempt (job_id, number, worker, started_at)
            SELECT id, attempt, worker, started_at FROM changed"""
    elif State.RUNNING in rule.sources:
        attempt = """UPDATE job_attempt SET ended_at = clock_timestamp(), outcome = %(recorded_as)s, error = %(attempt_error)s
            FROM changed WHERE job_attempt.job_id = changed.id AND job_attempt.number = changed.attempt"""
    else:
        attempt = "SELECT"
    # True if the rule takes the job out of its concurrency queue: it was running, or it was queued and has ended.
    leaves_queue = State.RUNNING in rule.sources or rule.event in (Event.CANCEL, Event.DEADLINE_PASSED)
    return f"""
        WITH changed AS (
            UPDATE job
            SET {_COMMA.join(changes)}
            WHERE {_AND.join(conditions)}
            RETURNING job.*
        ), attempt AS (
            {attempt}
        ), event AS (
            INSERT INTO job_event (job_id, seq, type, attempt, data, created_at)
            SELECT id, event_seq, %(recorded_as)s, attempt, %(data)s, clock_timestamp() FROM changed
        ){_RELEASE_NEXT if has_concurrency_key and leaves_queue else _RETURN}"""


def _state_change(rule: Rule, job: Job) -> StateChange:
    is_claim = rule.event is Event.CLAIM and job.started_at is not None
    wait = (job.started_at - job.run_at).total_seconds() if is_claim and job.started_at else None
    return StateChange(job.operation, rule.event.value, rule.target.value, wait)
