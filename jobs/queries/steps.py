"""The rows of what an attempt did to the world. Each write holds the job's row first and shows the fence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import connection

from jobs.models import JobStep

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta
    from uuid import UUID

_REFERENCE_MAX = 255  # characters, as the column has it
_SURROGATE = re.compile("[\ud800-\udfff]")
_FENCED = "job.id = %(job_id)s AND job.attempt = %(attempt)s AND job.state = 'running'"
_STARTED = "EXISTS (SELECT FROM job_step WHERE job_id = %(job_id)s AND name = %(name)s AND state = 'started')"

# The count rises with the step's first start and not with a repeat; a step known not to be done starts anew, window and all.
_BEGIN = f"""
    WITH fenced AS (
        UPDATE job SET open_effects = job.open_effects + CASE WHEN {_STARTED} THEN 0 ELSE 1 END,
            lease_expires_at = GREATEST(job.lease_expires_at,
                LEAST(clock_timestamp() + %(lease)s, job.started_at + %(attempt_limit)s))
        WHERE {_FENCED} AND job.lease_expires_at > (SELECT clock_timestamp())
        RETURNING job.id, job.attempt, job.lease_expires_at
    ), step AS (
        INSERT INTO job_step (job_id, name, kind, state, generation, downstream_key, attempt, first_started_at, last_started_at,
            undoes, result)
        SELECT id, %(name)s, 'effect', 'started', 1, %(key)s, attempt, clock.at, clock.at, %(undoes)s, %(because)s::bytea
        FROM fenced, (SELECT clock_timestamp() AS at) AS clock
        ON CONFLICT (job_id, name) DO UPDATE SET state = 'started', attempt = EXCLUDED.attempt, ended_at = NULL,
            result = EXCLUDED.result,
            last_started_at = EXCLUDED.last_started_at,
            first_started_at = CASE job_step.state WHEN 'started' THEN job_step.first_started_at
                                                   ELSE EXCLUDED.first_started_at END
        RETURNING downstream_key, first_started_at
    )
    SELECT step.downstream_key,
        EXTRACT(EPOCH FROM clock_timestamp() - step.first_started_at)::float8,
        EXTRACT(EPOCH FROM fenced.lease_expires_at - clock_timestamp())::float8
    FROM step, fenced"""

# One more is done to the world; or, where the step undoes another, one less.
_DONE = """CASE WHEN %(state)s <> 'done' THEN 0
        WHEN EXISTS (SELECT FROM job_step WHERE job_id = %(job_id)s AND name = %(name)s AND undoes IS NOT NULL) THEN -1
        ELSE 1 END"""
_UNDONE = """UPDATE job_step SET state = 'compensated' FROM step
        WHERE job_step.job_id = %(job_id)s AND job_step.name = step.undoes AND %(state)s = 'done'"""

_CLOSE = f"""
    WITH fenced AS (
        UPDATE job SET open_effects = job.open_effects - 1, done_effects = job.done_effects + {_DONE}
        WHERE {_FENCED} AND {_STARTED}
        RETURNING job.id, job.attempt
    ), step AS (
        UPDATE job_step SET state = %(state)s, result = COALESCE(%(result)s, job_step.result),
            reference = COALESCE(%(reference)s, job_step.reference), attempt = fenced.attempt, ended_at = clock_timestamp()
        FROM fenced WHERE job_step.job_id = fenced.id AND job_step.name = %(name)s
        RETURNING job_step.undoes
    ), undone AS (
        {_UNDONE}
    )
    SELECT 1 FROM step
    UNION ALL
    SELECT 1 FROM job JOIN job_step ON job_step.job_id = job.id AND job_step.name = %(name)s
    WHERE {_FENCED} AND job_step.state = %(state)s AND job_step.attempt = %(attempt)s"""

_REMEMBER = f"""
    WITH fenced AS (SELECT id, attempt FROM job WHERE {_FENCED} FOR NO KEY UPDATE)
    INSERT INTO job_step (job_id, name, kind, state, attempt, first_started_at, last_started_at, ended_at, result)
    SELECT id, %(name)s, %(kind)s, 'done', attempt, clock.at, clock.at, clock.at, %(result)s
    FROM fenced, (SELECT clock_timestamp() AS at) AS clock
    ON CONFLICT (job_id, name) DO UPDATE SET attempt = EXCLUDED.attempt
        WHERE job_step.attempt = EXCLUDED.attempt AND job_step.kind = EXCLUDED.kind AND job_step.state = 'done'
    RETURNING 1"""

_VERDICT = f"""
    WITH held AS (
        UPDATE job SET open_effects = job.open_effects - 1, done_effects = job.done_effects + {_DONE}
        WHERE job.id = %(job_id)s AND job.state = 'unknown'
          AND EXISTS (SELECT FROM job_step WHERE job_id = %(job_id)s AND name = %(name)s AND state = 'started')
        RETURNING job.id
    ), step AS (
        UPDATE job_step SET state = %(state)s, reference = COALESCE(%(reference)s, job_step.reference),
            result = COALESCE(CASE WHEN job_step.undoes IS NOT NULL THEN job_step.result END, %(result)s::bytea),
            ended_at = clock_timestamp()
        FROM held WHERE job_step.job_id = held.id AND job_step.name = %(name)s
        RETURNING job_step.undoes
    ), undone AS (
        {_UNDONE}
    )
    SELECT 1 FROM step"""

_RAISE_GENERATION = """
    UPDATE job_step SET generation = generation + 1, state = 'not_done', downstream_key = %(key)s, result = NULL
    WHERE job_id = %(job_id)s AND name = %(name)s AND state <> 'started'"""

_SINCE_LAST_START = """
    SELECT EXTRACT(EPOCH FROM clock_timestamp() - first_started_at)::float8,
           EXTRACT(EPOCH FROM clock_timestamp() - last_started_at)::float8
    FROM job_step WHERE job_id = %(job_id)s AND name = %(name)s"""


@dataclass(frozen=True)
class BegunEffect:
    """A started effect: the key for the downstream, seconds since its first start, seconds that the lease still runs."""

    key: str
    age_seconds: float
    lease_seconds_left: float


def steps_of(job_id: UUID) -> dict[str, JobStep]:
    """The job's steps by name; job_step_pkey serves it."""
    return {step.name: step for step in JobStep.objects.filter(job_id=job_id)}


def begin_effect(
    *,
    job_id: UUID,
    attempt: int,
    name: str,
    key: str,
    lease: timedelta,
    attempt_limit: timedelta,
    undoes: str | None = None,
    because: bytes | None = None,
) -> BegunEffect | None:
    """The step is `started`, counted among the open effects, and the lease renewed: all in one commit, before anything is sent.

    None where the attempt holds the job no more. Locks the job's row, then the step's. `key` is used for a new step only.
    `undoes`: the step that it compensates, `because` (encoded) of an end that the next attempt must know of.
    """
    values = {
        "job_id": job_id,
        "attempt": attempt,
        "name": name,
        "key": key,
        "lease": lease,
        "attempt_limit": attempt_limit,
        "undoes": undoes,
        "because": because,
    }
    row = _fetch(_BEGIN, values)
    return BegunEffect(*row) if row else None


def reference_of(answer: object) -> str | None:
    """What the downstream calls what it did: its answer's `id`, as most name it; None where it has none that we can keep."""
    found = answer.get("id") if isinstance(answer, dict) else None
    return found if isinstance(found, str) and is_searchable(found) else None


def is_searchable(text: str) -> bool:
    """Whether a reference, or what is looked for, can be in a column: 1 to 255 characters that PostgreSQL and UTF-8 know."""
    return 0 < len(text) <= _REFERENCE_MAX and "\x00" not in text and _SURROGATE.search(text) is None


def close_effect(
    *,
    job_id: UUID,
    attempt: int,
    name: str,
    state: str,
    result: bytes | None = None,
    reference: str | None = None,
) -> bool:
    """The started step is closed as `state` and no longer open; False where the attempt holds the job no more.

    May be repeated by the attempt that closed it so: the reply to the first COMMIT can have been lost.
    A compensation that is done makes the step that it undoes `compensated`. Locks the job's row, then the steps'.
    """
    values = {
        "job_id": job_id,
        "attempt": attempt,
        "name": name,
        "state": state,
        "result": result,
        "reference": reference,
    }
    return _fetch(_CLOSE, values) is not None


def remember_step(*, job_id: UUID, attempt: int, name: str, kind: str, result: bytes) -> bool:
    """The step is `done` with its result; False where the attempt holds the job no more, or an earlier one recorded it.

    May be repeated by the attempt that recorded it: the reply to the first COMMIT can have been lost.
    Locks the job's row until the end of the transaction, so that a commit step's changes stand or fall with the fence.
    """
    values = {"job_id": job_id, "attempt": attempt, "name": name, "kind": kind, "result": result}
    return _fetch(_REMEMBER, values) is not None


def close_by_verdict(
    *, job_id: UUID, name: str, state: str, result: bytes | None = None, reference: str | None = None
) -> bool:
    """The started step of an `unknown` job is closed by a person's word; False where there is no such step or state.

    As with `close_effect`, of a compensation too, whose record keeps why it was begun: the next attempt ends for that reason.
    Locks the job's row, then the steps'.
    """
    values = {"job_id": job_id, "name": name, "state": state, "result": result, "reference": reference}
    return _fetch(_VERDICT, values) is not None


def raise_generation(*, job_id: UUID, name: str, key: str) -> None:
    """The refused or undone step begins anew under another downstream key. The caller holds the job's row."""
    with connection.cursor() as cursor:
        cursor.execute(_RAISE_GENERATION, {"job_id": job_id, "name": name, "key": key})


def seconds_since_start(*, job_id: UUID, name: str) -> tuple[float, float]:
    """Seconds since the step's first and its last start, by the database's clock."""
    row = _fetch(_SINCE_LAST_START, {"job_id": job_id, "name": name})
    if row is None:
        raise LookupError(f"Job {job_id} has no step {name!r}.")
    return row[0], row[1]


def _fetch(statement: str, values: Mapping[str, Any]) -> tuple[Any, ...] | None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        row: tuple[Any, ...] | None = cursor.fetchone()
    return row
