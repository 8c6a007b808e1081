"""Claim the next due job of a queue: alone, or in the statement that settles the job before it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from broker.publisher import wake_waiters_on_commit
from foundation.statements import Row, fetch_one
from jobs.models import Job
from jobs.queries.read import job_columns, job_of
from jobs.queries.rule_statement import GUARDS, KNOWN_OPERATION, announce, rule_ctes
from jobs.signals import StateChange, announce_state_change
from jobs.states import Event, Guard, State, rules_for

(_CLAIM,) = rules_for(Event.CLAIM)
(_SUCCEED,) = rules_for(Event.SUCCEED)
_AND = "\n                  AND "
_CLAIMABLE = _AND.join([*(GUARDS[guard] for guard in _CLAIM.guards if guard is not Guard.DUE), KNOWN_OPERATION])

# CASE hides the guards from the planner. It would expect that few jobs pass them, and then read and sort the whole queue instead
# of reading its index until the first one passes.
_FIRST = f"""
                SELECT job.id FROM job
                WHERE job.state = 'queued' AND NOT job.held AND job.queue = %(queue)s
                  AND job.run_at >= %(due_from)s AND {GUARDS[Guard.DUE]}
                  AND CASE WHEN {_CLAIMABLE}
                      THEN TRUE ELSE FALSE END
                ORDER BY job.run_at LIMIT 1"""
# The guards hold for the row that is locked; only its state is checked again.
_CLAIMED: Final = rule_ctes(
    _CLAIM, [f"job.id = ({_FIRST} FOR NO KEY UPDATE SKIP LOCKED\n            )", "job.state = 'queued'"], name="claimed"
)
_RETURNED_CLAIM: Final = job_columns("claimed")

CLAIM_NEXT = f"""
        WITH {_CLAIMED}
        SELECT {_RETURNED_CLAIM} FROM claimed"""

_FENCE = "job.id = %(job_id)s AND job.attempt = %(attempt)s AND job.state = 'running'"
_SETTLED: Final = rule_ctes(_SUCCEED, [_FENCE, *(GUARDS[guard] for guard in _SUCCEED.guards)], name="settled")
SUCCEED_AND_CLAIM_NEXT = f"""
        WITH {_SETTLED}, {_CLAIMED}
        SELECT {_RETURNED_CLAIM}, settled.event_seq, settled.operation
        FROM (SELECT) AS one LEFT JOIN settled ON TRUE LEFT JOIN claimed ON TRUE"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NextJob:
    """Which job a worker takes next: the first due one of the queue.

    due_from: jobs that have been due for longer are skipped. The index keeps the entries of claimed jobs as long as an old
    snapshot may need them, and so a search does not pass them each time.
    """

    queue: str
    due_from: datetime
    worker: str
    lease: timedelta
    known_operations: list[str]

    def values(self) -> dict[str, Any]:
        """Return the parameters of the statements of this file."""
        return {name: getattr(self, name) for name in self.__slots__} | {"data": "{}", "attempt_error": None}


def claim_next(wanted: NextJob) -> Job | None:
    """Claim the first due job of the queue and return it; None if there is none.

    Locks one job row, and skips rows that others have locked. Served by job_claim. Raises IntegrityError if another job of the
    same concurrency key was claimed in the same instant.
    """
    row = fetch_one(CLAIM_NEXT, **wanted.values())
    return None if row is None else _claimed(row)


def succeed_and_claim_next(*, job_id: UUID, attempt: int, result: bytes, wanted: NextJob) -> tuple[bool, Job | None]:
    """End the attempt's job as succeeded and claim the next one, in one statement and one commit.

    Return whether the job was settled, and the claimed job. Each part may match no row without the other. Only for a job without
    a concurrency key. If the statement fails, neither part took effect.
    Locks the two job rows; served by job_pkey, job_claim. Raises IntegrityError as `claim_next` does.
    """
    row = fetch_one(SUCCEED_AND_CLAIM_NEXT, job_id=job_id, attempt=attempt, result=result, **wanted.values())
    assert row is not None  # noqa: S101 - the statement returns one row
    event_seq, operation = row[-2:]
    if event_seq is not None:
        wake_waiters_on_commit(job_id, event_seq)
        announce_state_change(StateChange(operation, Event.SUCCEED.value, State.SUCCEEDED.value))
    return event_seq is not None, None if row[0] is None else _claimed(row)


def find_next(wanted: NextJob) -> UUID | None:
    """Return the job that `claim_next` would claim. Locks nothing; served by job_claim."""
    row = fetch_one(_FIRST, **wanted.values())
    return None if row is None else row[0]


def _claimed(row: Row) -> Job:
    job = job_of(row)
    announce(_CLAIM, job)
    return job
