"""The statement of each rule in states.py: the guarded UPDATE of the job, with its attempt and its event, in one round trip.

Each text is composed once from the constants below; values are always parameters. docs/statements.sql shows them
as rendered.
Instants are `clock_timestamp()`, because `now()` is frozen at the start of the transaction. Conditions use it in a sub-select:
the bare function is volatile and keeps PostgreSQL from using an index.
"""

import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from broker.hints import DueJob
from broker.publisher import publish_hint_on_commit, wake_waiters_on_commit
from foundation.statements import Row, Statement, fetch_one, run_together
from jobs.models import Job
from jobs.queries.concurrency_queue import BLOCKED_AT_TAIL, LOCK_QUEUE_OF_JOB, NOT_BLOCKED, RELEASE_HEAD
from jobs.queries.pauses import PAUSED
from jobs.queries.read import job_columns, job_of
from jobs.signals import StateChange, announce_state_change
from jobs.states import Event, Fence, Guard, Rule, State

_NOW = "(SELECT clock_timestamp())"

GUARDS: Mapping[Guard, str] = {
    Guard.DUE: f"job.run_at <= {_NOW}",
    Guard.ATTEMPTS_LEFT: "job.attempts_left > 0",
    Guard.NO_ATTEMPTS_LEFT: "job.attempts_left = 0",
    Guard.DEADLINE_PASSED: f"job.deadline_at <= {_NOW}",
    # A deadline does not stop a job with an open or done effect: an open effect must be reconciled, a done one
    # completed or undone.
    Guard.DEADLINE_NOT_PASSED: f"""(job.deadline_at IS NULL OR job.deadline_at > {_NOW}
                OR job.open_effects > 0 OR job.done_effects > 0)""",
    Guard.NOT_BLOCKED: NOT_BLOCKED,
    Guard.NOT_PAUSED: f"NOT {PAUSED}",
    Guard.LEASE_EXPIRED: f"job.lease_expires_at <= {_NOW}",
    Guard.NO_OPEN_EFFECTS: "job.open_effects = 0",
    Guard.OPEN_EFFECTS: "job.open_effects > 0",
    Guard.NO_DONE_EFFECTS: "job.done_effects = 0",
    Guard.CANCEL_REQUESTED: "job.cancel_requested_at IS NOT NULL",
    Guard.NOT_RECONCILE_ONLY: "NOT job.reconcile_only",
    Guard.NOT_ERASED: "job.erased_at IS NULL",
}
KNOWN_OPERATION = "job.operation || '@' || job.operation_version = ANY(%(known_operations)s)"

_RELEASED = "lease_expires_at = NULL, worker = NULL"
_ENDED = f"finished_at = clock_timestamp(), {_RELEASED}"
_NO_ERROR = "error = NULL, error_code = NULL, error_cause = NULL"
# The columns that each target state sets.
_BY_TARGET: Mapping[State, str] = {
    State.RUNNING: """attempt = job.attempt + 1, attempts_left = job.attempts_left - 1,
                lease_expires_at = clock_timestamp() + %(lease)s, worker = %(worker)s, started_at = clock_timestamp()""",
    State.QUEUED: f"run_at = statement_timestamp() + %(delay)s, {_RELEASED}",
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
                accept_seq = CASE WHEN job.concurrency_key IS NOT NULL THEN nextval('job_accept_seq') END,
                held = {BLOCKED_AT_TAIL}"""

_COMMA, _AND = ",\n                ", "\n              AND "


def apply_first_rule(
    rules: Iterable[Rule],
    *,
    event_data: Mapping[str, Any] | None = None,
    has_concurrency_key: bool = True,
    **values: Any,  # noqa: ANN401 - the statement's parameters
) -> Job | None:
    """Apply the first of the rules that state, fence and guards allow, and return the job; None if they allow none.

    Locks the job's row (job_pkey), then writes its attempt and event. If two transactions apply rules to one job, the
    second waits for the row and checks its conditions again: only one succeeds. If the job leaves its concurrency queue, that
    queue is locked before, and its first job is released (job_concurrency_order). All in one round trip per rule.
    has_concurrency_key: pass False if the job is known to have none; that part is then left out.
    Raises IntegrityError if a claim meets a running job of the same concurrency key in the same instant.
    """
    values = {"attempt_error": None, **values, "data": json.dumps(dict(event_data or {}))}
    for rule in rules:
        leaves_queue = has_concurrency_key and _leaves_queue(rule)
        row = _run(render_rule(rule, has_concurrency_key=has_concurrency_key), values, locks_queue=leaves_queue)
        if row is None:
            continue
        job = job_of(row)
        if leaves_queue and (head := row[-2:]) != (None, None):
            publish_hint_on_commit(DueJob(*head))
        announce(rule, job)
        return job
    return None


def announce(rule: Rule, job: Job) -> None:
    """Wake the requests that wait for the job, and count its change, after the commit."""
    is_claim = rule.event is Event.CLAIM and job.started_at is not None
    wait = (job.started_at - job.run_at).total_seconds() if is_claim and job.started_at else None
    wake_waiters_on_commit(job.id, job.event_seq)
    announce_state_change(StateChange(job.operation, rule.event.value, rule.target.value, wait))


@cache
def render_rule(rule: Rule, *, has_concurrency_key: bool = True) -> str:
    """Return the statement that applies the rule to the job :job_id."""
    conditions = ["job.id = %(job_id)s", _in_sources(rule), *(GUARDS[guard] for guard in rule.guards)]
    if rule.fence is Fence.CHECKS:
        conditions.append("job.attempt = %(attempt)s")
    if rule.fence is Fence.INCREMENTS:
        conditions.append(KNOWN_OPERATION)
    changed = rule_ctes(rule, conditions)
    if has_concurrency_key and _leaves_queue(rule):
        return f"""
        WITH {changed}{RELEASE_HEAD}
        SELECT {job_columns("changed")}, head.id, head.queue FROM changed LEFT JOIN head ON head.is_due"""
    return f"""
        WITH {changed}
        SELECT {job_columns("changed")} FROM changed"""


def rule_ctes(rule: Rule, conditions: Iterable[str], *, name: str = "changed") -> str:
    """Return the rule's change, under the name `name`, with its attempt and its event, for a WITH."""
    changes = [f"state = '{rule.target}'", "event_seq = job.event_seq + 1", _BY_TARGET[rule.target]]
    if rule.target is State.QUEUED and rule.event in (Event.REDRIVE, Event.RESOLVE):
        changes.append(_RESET)
    elif State.QUEUED in rule.sources:
        changes.append("held = FALSE")
    if rule.event is Event.CANCEL:
        changes.append("cancel_requested_at = COALESCE(job.cancel_requested_at, clock_timestamp())")
    elif rule.reconcile_only:
        changes.append("reconcile_only = TRUE, attempts_left = 1")
    elif rule.target is State.QUEUED and rule.event is Event.POSTPONE:
        changes.append("attempts_left = LEAST(job.attempts_left + 1, job.max_attempts)")
    if rule.fence is Fence.INCREMENTS:
        attempt = f"""INSERT INTO job_attempt (job_id, number, worker, started_at)
            SELECT id, attempt, worker, started_at FROM {name}"""
    elif State.RUNNING in rule.sources:
        attempt = f"""UPDATE job_attempt
            SET ended_at = clock_timestamp(), outcome = '{rule.recorded_as}', error = %(attempt_error)s
            FROM {name} WHERE job_attempt.job_id = {name}.id AND job_attempt.number = {name}.attempt"""
    else:
        attempt = "SELECT"
    return f"""{name} AS (
            UPDATE job
            SET {_COMMA.join(changes)}
            WHERE {_AND.join(conditions)}
            RETURNING job.*
        ), {name}_attempt AS (
            {attempt}
        ), {name}_event AS (
            INSERT INTO job_event (job_id, seq, type, attempt, data, created_at)
            SELECT id, event_seq, '{rule.recorded_as}', attempt, %(data)s, clock_timestamp() FROM {name}
        )"""


def _in_sources(rule: Rule) -> str:
    names = ", ".join(f"'{source}'" for source in sorted(rule.sources))
    return f"job.state IN ({names})"


def _leaves_queue(rule: Rule) -> bool:
    """Return whether the rule takes the job out of its concurrency queue: it was running, or queued and has ended."""
    return State.RUNNING in rule.sources or rule.event in (Event.CANCEL, Event.DEADLINE_PASSED)


def _run(sql: str, values: Mapping[str, Any], *, locks_queue: bool) -> Row | None:
    if not locks_queue:
        return fetch_one(sql, **values)
    _, rows = run_together(Statement(LOCK_QUEUE_OF_JOB, values), Statement(sql, values))
    return rows[0] if rows else None
