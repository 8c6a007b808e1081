"""The rows of effects and steps. Each write locks the job's row first and checks the fence."""

import re
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from foundation.statements import execute, fetch_all, fetch_one
from jobs.models import JobStep

_REFERENCE_MAX = 255  # characters of job_step.reference
_SURROGATE = re.compile("[\ud800-\udfff]")
_FENCED = "job.id = %(job_id)s AND job.attempt = %(attempt)s AND job.state = 'running'"
_STARTED = "EXISTS (SELECT FROM job_step WHERE job_id = %(job_id)s AND name = %(name)s AND state = 'started')"

# open_effects rises only if the step was not started. A `not_done` step gets a new first_started_at, and so a new key window.
_BEGIN = f"""
    WITH fenced AS (
        UPDATE job
        SET open_effects = job.open_effects + CASE WHEN
                {_STARTED} THEN 0 ELSE 1 END,
            lease_expires_at = GREATEST(job.lease_expires_at,
                LEAST(clock_timestamp() + %(lease)s, job.started_at + %(attempt_limit)s))
        WHERE {_FENCED}
          AND job.lease_expires_at > (SELECT clock_timestamp())
        RETURNING job.id, job.attempt, job.lease_expires_at
    ), step AS (
        INSERT INTO job_step (job_id, name, kind, state, generation, downstream_key, attempt, first_started_at, last_started_at,
            undoes, result)
        SELECT id, %(name)s, 'effect', 'started', 1, %(key)s, attempt, clock.at, clock.at, %(undoes)s, %(original_error)s::bytea
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

# How done_effects changes: by one, or by minus one for a compensation.
_DONE = """CASE WHEN %(state)s <> 'done' THEN 0
        WHEN EXISTS (SELECT FROM job_step WHERE job_id = %(job_id)s AND name = %(name)s AND undoes IS NOT NULL) THEN -1
        ELSE 1 END"""
_COMPENSATE = """UPDATE job_step SET state = 'compensated' FROM step
        WHERE job_step.job_id = %(job_id)s AND job_step.name = step.undoes AND %(state)s = 'done'"""

_CLOSE = f"""
    WITH fenced AS (
        UPDATE job SET open_effects = job.open_effects - 1, done_effects = job.done_effects + {_DONE}
        WHERE {_FENCED}
          AND {_STARTED}
        RETURNING job.id, job.attempt
    ), step AS (
        UPDATE job_step SET state = %(state)s, result = COALESCE(%(result)s, job_step.result),
            reference = COALESCE(%(reference)s, job_step.reference), attempt = fenced.attempt, ended_at = clock_timestamp()
        FROM fenced WHERE job_step.job_id = fenced.id AND job_step.name = %(name)s
        RETURNING job_step.undoes
    ), compensated AS (
        {_COMPENSATE}
    )
    SELECT 1 FROM step
    UNION ALL
    SELECT 1 FROM job JOIN job_step ON job_step.job_id = job.id AND job_step.name = %(name)s
    WHERE {_FENCED}
      AND job_step.state = %(state)s AND job_step.attempt = %(attempt)s"""

_RECORD = f"""
    WITH fenced AS (SELECT id, attempt FROM job WHERE {_FENCED} FOR NO KEY UPDATE)
    INSERT INTO job_step (job_id, name, kind, state, attempt, first_started_at, last_started_at, ended_at, result)
    SELECT id, %(name)s, %(kind)s, 'done', attempt, clock.at, clock.at, clock.at, %(result)s
    FROM fenced, (SELECT clock_timestamp() AS at) AS clock
    ON CONFLICT (job_id, name) DO UPDATE SET attempt = EXCLUDED.attempt
        WHERE job_step.attempt = EXCLUDED.attempt AND job_step.kind = EXCLUDED.kind AND job_step.state = 'done'
    RETURNING 1"""

_VERDICT = f"""
    WITH fenced AS (
        UPDATE job SET open_effects = job.open_effects - 1, done_effects = job.done_effects + {_DONE}
        WHERE job.id = %(job_id)s AND job.state = 'unknown'
          AND EXISTS (SELECT FROM job_step WHERE job_id = %(job_id)s AND name = %(name)s AND state = 'started')
        RETURNING job.id
    ), step AS (
        UPDATE job_step SET state = %(state)s, reference = COALESCE(%(reference)s, job_step.reference),
            result = COALESCE(CASE WHEN job_step.undoes IS NOT NULL THEN job_step.result END, %(result)s::bytea),
            ended_at = clock_timestamp()
        FROM fenced WHERE job_step.job_id = fenced.id AND job_step.name = %(name)s
        RETURNING job_step.undoes
    ), compensated AS (
        {_COMPENSATE}
    )
    SELECT 1 FROM step"""

_RAISE_GENERATION = """
    UPDATE job_step SET generation = generation + 1, state = 'not_done', downstream_key = %(key)s, result = NULL
    WHERE job_id = %(job_id)s AND name = %(name)s AND state <> 'started'"""

_SECONDS_SINCE_START = """
    SELECT EXTRACT(EPOCH FROM clock_timestamp() - first_started_at)::float8,
           EXTRACT(EPOCH FROM clock_timestamp() - last_started_at)::float8
    FROM job_step WHERE job_id = %(job_id)s AND name = %(name)s"""


@dataclass(frozen=True)
class BegunEffect:
    """A started effect: its downstream key, seconds since its first start, seconds left on the lease."""

    key: str
    age_seconds: float
    lease_seconds_left: float


def steps_of(job_id: UUID) -> dict[str, JobStep]:
    """Return the job's steps by name. Served by job_step_pkey."""
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
    original_error: bytes | None = None,
) -> BegunEffect | None:
    """Record the effect as `started`, raise open_effects and renew the lease in one commit, before anything is sent.

    None if the attempt is stale or its lease expired. Locks the job's row, then the step's. `key` is used for a new step only.
    undoes: the step that this one compensates. original_error: why (encoded), for an attempt that continues the compensation.
    """
    row = fetch_one(
        _BEGIN,
        job_id=job_id,
        attempt=attempt,
        name=name,
        key=key,
        lease=lease,
        attempt_limit=attempt_limit,
        undoes=undoes,
        original_error=original_error,
    )
    return BegunEffect(*row) if row else None


def reference_of(answer: object) -> str | None:
    """Return the downstream's own id of the effect (`answer["id"]`); None if there is none, or if it cannot be stored."""
    reference = answer.get("id") if isinstance(answer, dict) else None
    return reference if isinstance(reference, str) and is_searchable(reference) else None


def is_searchable(text: str) -> bool:
    """Whether the text can be a stored reference: 1 to 255 characters, no U+0000, no surrogate."""
    return 0 < len(text) <= _REFERENCE_MAX and "\x00" not in text and _SURROGATE.search(text) is None


def close_effect(
    *, job_id: UUID, attempt: int, name: str, state: str, result: bytes | None = None, reference: str | None = None
) -> bool:
    """Close the started effect as `state` and lower open_effects; False if the attempt is stale.

    The attempt may repeat it, because the reply to the first COMMIT can be lost. A compensation that is done sets the step that
    it undoes to `compensated`. Locks the job's row, then the steps'.
    """
    row = fetch_one(_CLOSE, job_id=job_id, attempt=attempt, name=name, state=state, result=result, reference=reference)
    return row is not None


def record_step(*, job_id: UUID, attempt: int, name: str, kind: str, result: bytes) -> bool:
    """Record the step as `done` with its result; False if the attempt is stale or an earlier one recorded it.

    The attempt may repeat it, because the reply to the first COMMIT can be lost. Locks the job's row until the end of the
    transaction, so that the changes of a commit step are committed only while the fence holds.
    """
    row = fetch_one(_RECORD, job_id=job_id, attempt=attempt, name=name, kind=kind, result=result)
    return row is not None


def close_by_verdict(
    *, job_id: UUID, name: str, state: str, result: bytes | None = None, reference: str | None = None
) -> bool:
    """Close the started effect of an `unknown` job by a verdict; False if there is no such effect or job.

    As with `close_effect`; a compensation keeps its original error, with which the next attempt ends. Locks the job's row, then
    the steps'.
    """
    row = fetch_one(_VERDICT, job_id=job_id, name=name, state=state, result=result, reference=reference)
    return row is not None


def raise_generation(*, job_id: UUID, name: str, key: str) -> None:
    """Give the refused or compensated step a new downstream key. The caller has locked the job's row."""
    execute(_RAISE_GENERATION, job_id=job_id, name=name, key=key)


def seconds_since_start(*, job_id: UUID, name: str) -> tuple[float, float]:
    """Return the seconds since the step's first and last start, by the database's clock."""
    ((first, last),) = fetch_all(_SECONDS_SINCE_START, job_id=job_id, name=name)
    return first, last
