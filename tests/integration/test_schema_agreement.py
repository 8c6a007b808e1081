"""The constraints of the database repeat the rules of states.py: an illegal row cannot be written."""

from __future__ import annotations

import re

import pytest
from django.db import IntegrityError, connection, transaction

from jobs.models import JobAttempt, JobStep
from jobs.states import RULES, TERMINAL, State
from tests.support.factories import claimed_job
from tests.support.scenarios import in_state, write

pytestmark = pytest.mark.django_db

# Constraint: the state of a job, and what may not be written to it.
ILLEGAL_JOBS = [
    ("job_state_is_known", State.UNKNOWN, "state = 'paused'"),
    ("job_erased_has_ended", State.QUEUED, "erased_at = now()"),
    ("job_mode_is_known", State.QUEUED, "mode = 'prod'"),
    ("job_queued_has_attempts", State.QUEUED, "attempts_left = 0"),
    ("job_held_is_queued", State.RUNNING, "held = TRUE"),
    ("job_held_is_queued", State.FAILED, "held = TRUE"),
    ("job_running_has_a_lease", State.RUNNING, "lease_expires_at = NULL"),
    ("job_running_has_a_lease", State.RUNNING, "worker = NULL"),
    ("job_running_has_a_lease", State.RUNNING, "attempt = 0"),
    ("job_running_has_a_lease", State.QUEUED, "lease_expires_at = now()"),
    ("job_running_has_a_lease", State.UNKNOWN, "worker = 'w'"),
    ("job_ended_has_no_open_effect", State.SUCCEEDED, "open_effects = 1"),
    ("job_ended_has_no_open_effect", State.FAILED, "open_effects = 1"),
    ("job_ended_has_no_open_effect", State.CANCELED, "open_effects = 1"),
    ("job_ended_has_no_open_effect", State.FAILED, "finished_at = NULL"),
    ("job_ended_has_no_open_effect", State.QUEUED, "finished_at = now()"),
    ("job_ended_has_no_open_effect", State.RUNNING, "finished_at = now()"),
    ("job_ended_has_no_open_effect", State.UNKNOWN, "finished_at = now()"),
    ("job_canceled_did_nothing", State.CANCELED, "done_effects = 1"),
    ("job_succeeded_has_a_result", State.SUCCEEDED, "result = NULL"),
    ("job_failed_or_unknown_says_why", State.FAILED, "error = NULL"),
    ("job_failed_or_unknown_says_why", State.UNKNOWN, "error = NULL"),
    ("job_attempts_left_within_max", State.RUNNING, "attempts_left = max_attempts + 1"),
    ("job_counts_are_not_negative", State.RUNNING, "open_effects = -1"),
    ("job_counts_are_not_negative", State.RUNNING, "done_effects = -1"),
    ("job_counts_are_not_negative", State.RUNNING, "attempts_left = -1"),
]
ILLEGAL_ATTEMPTS = [
    ("job_attempt_ends_with_an_outcome", "ended_at = now()"),
    ("job_attempt_ends_with_an_outcome", "outcome = 'fail'"),
    ("job_attempt_outcome_is_known", "ended_at = now(), outcome = 'other'"),
]
ILLEGAL_STEPS = [
    ("job_step_kind_is_known", "kind = 'other', state = 'done', ended_at = now(), result = ''"),
    ("job_step_state_is_known", "state = 'maybe', ended_at = now()"),
    ("job_step_only_effects_are_open", "downstream_key = NULL"),
    ("job_step_only_effects_are_open", "kind = 'step'"),
    ("job_step_only_effects_are_open", "kind = 'commit'"),
    ("job_step_done_has_a_result", "state = 'done', ended_at = now()"),
    ("job_step_ended_unless_started", "ended_at = now()"),
    ("job_step_ended_unless_started", "state = 'refused'"),
]


@pytest.mark.parametrize(("constraint", "state", "assignment"), ILLEGAL_JOBS)
def test_an_illegal_job_cannot_be_written(tenant, constraint, state, assignment):
    job = in_state(tenant, state)
    with pytest.raises(IntegrityError, match=f'"{constraint}"'):
        write(job.id, assignment)


@pytest.mark.parametrize(("constraint", "assignment"), ILLEGAL_ATTEMPTS)
def test_an_illegal_attempt_cannot_be_written(tenant, constraint, assignment):
    with pytest.raises(IntegrityError, match=f'"{constraint}"'):
        run(f"UPDATE job_attempt SET {assignment} WHERE job_id = %s", claimed_job(tenant).id)


@pytest.mark.parametrize(("constraint", "assignment"), ILLEGAL_STEPS)
def test_an_illegal_step_cannot_be_written(tenant, constraint, assignment):
    with pytest.raises(IntegrityError, match=f'"{constraint}"'):
        run(f"UPDATE job_step SET {assignment} WHERE job_id = %s", in_state(tenant, State.UNKNOWN).id)


@pytest.mark.parametrize("table", ["job_attempt", "job_step", "job_event"])
def test_a_row_of_a_jobs_history_cannot_be_duplicated(tenant, table):
    job = in_state(tenant, State.UNKNOWN)
    with pytest.raises(IntegrityError, match=f'"{table}_pkey"'):
        run(f"INSERT INTO {table} SELECT * FROM {table} WHERE job_id = %s", job.id)


def test_two_jobs_of_one_concurrency_key_cannot_run_at_once(tenant):
    first, second = claimed_job(tenant), claimed_job(tenant)
    write(first.id, "concurrency_key = 'one'")
    with pytest.raises(IntegrityError, match='"job_one_running_per_concurrency_key"'):
        write(second.id, "concurrency_key = 'one'")


def test_every_named_constraint_is_tested_with_an_illegal_row():
    named = {name for name in constraints() if not re.fullmatch(r".*_check\d*", name)}
    tried = {name for name, *_ in (*ILLEGAL_JOBS, *ILLEGAL_ATTEMPTS, *ILLEGAL_STEPS)}
    assert named <= tried


def test_the_constraint_lists_the_states_of_the_enum():
    assert literals("job_state_is_known") == set(State)
    assert {state for rule in RULES for state in (rule.target, *rule.sources)} == set(State)


def test_the_constraint_lists_the_terminal_states_of_the_enum():
    assert literals("job_ended_has_no_open_effect") == TERMINAL


def test_the_constraint_lists_every_outcome_of_the_rules():
    endings = {rule.recorded_as for rule in RULES if State.RUNNING in rule.sources}
    assert literals("job_attempt_outcome_is_known") == endings == set(JobAttempt.Outcome.values)


def test_the_constraints_list_the_kinds_and_states_of_steps():
    assert literals("job_step_kind_is_known") == set(JobStep.Kind.values)
    assert literals("job_step_state_is_known") == set(JobStep.State.values)


def test_no_index_contains_a_column_that_a_renewal_or_progress_writes():
    """So a renewal is a HOT update: it writes to no index."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'job'")
        indexes = dict(cursor.fetchall())
    assert "job_running" in indexes
    for column in ("lease_expires_at", "progress", "event_seq", "open_effects", "done_effects"):
        assert [name for name, text in indexes.items() if re.search(rf"\b{column}\b", text)] == []


def test_pages_of_jobs_have_room_for_hot_updates():
    with connection.cursor() as cursor:
        cursor.execute("SELECT reloptions FROM pg_class WHERE relname = 'job'")
        assert "fillfactor=70" in cursor.fetchone()[0]


def test_every_transaction_is_read_committed():
    with connection.cursor() as cursor:
        cursor.execute("SHOW default_transaction_isolation")
        assert cursor.fetchone()[0] == "read committed"


def run(statement, *values):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, values)


def constraints():
    """Return what each CHECK constraint and each rule of a trigger requires, by name."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE contype = 'c' AND conrelid::regclass::text IN ('job', 'job_attempt', 'job_step', 'job_event')"
        )
        checks = dict(cursor.fetchall())
        cursor.execute(
            "SELECT prosrc FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid"
            " WHERE tgrelid::regclass::text IN ('job', 'job_attempt', 'job_step', 'job_event')"
        )
        rules = re.findall(r"WHEN NOT \((.*)\) THEN '(\w+)'", "\n".join(source for (source,) in cursor.fetchall()))
    return {**checks, **{name: rule for rule, name in rules}}


def literals(constraint):
    return set(re.findall(r"'(\w+)'", constraints()[constraint]))
