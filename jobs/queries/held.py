"""Held jobs: queued jobs that cannot be claimed are kept out of the claim index, so that claims do not meet them.

A job that is not held although it must wait costs a claim one look. A job that is held although nothing keeps it would wait for
ever, so each hold has an owner that ends it later:

- paused: held while the pause is locked; the resume waits for that, and all held jobs are looked at after it;
- behind another job of its concurrency queue: held under the queue's lock; a job that leaves the queue takes the lock, too;
- of an operation that the sweep's process does not know: a newer process looks at it.

In addition, each sweep looks at some held jobs in turn and releases those that nothing keeps.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction

from foundation.statements import Statement, fetch_all, run_together
from jobs.models import Pause
from jobs.queries.concurrency_queue import LOCK_QUEUE_OF_JOB, NOT_BLOCKED
from jobs.queries.pauses import PAUSED, PAUSED_BY_LOCKED, lock_pauses, lock_resumed_pause
from jobs.queries.rule_statement import KNOWN_OPERATION

FIRST_HELD = UUID(int=0)

_UNHELD = "job.state = 'queued' AND NOT job.held AND job.run_at <= (SELECT clock_timestamp())"
_KEPT = f"({PAUSED_BY_LOCKED} OR NOT {KNOWN_OPERATION})"

_FRONT = f"""
    WITH front AS MATERIALIZED (
        SELECT job.id, job.tenant_id, job.mode, job.concurrency_key, {_KEPT} AS is_kept, NOT {NOT_BLOCKED} AS is_blocked
        FROM job WHERE {_UNHELD} AND job.queue = %(queue)s
        ORDER BY job.run_at LIMIT %(limit)s
    )
    SELECT id, is_kept, tenant_id, mode, concurrency_key FROM front WHERE is_kept OR is_blocked"""

# SKIP LOCKED: a transaction that has locked a row claims, cancels or releases it, and may wait for a row that this statement
# has locked.
_HOLD = """
    WITH waiting AS MATERIALIZED (
        SELECT job.id FROM job WHERE job.id = ANY(%(job_ids)s) AND {unheld} AND {condition}
        FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE job SET held = TRUE FROM waiting WHERE job.id = waiting.id RETURNING 1"""
_HOLD_KEPT = _HOLD.format(unheld=_UNHELD, condition=_KEPT)
_HOLD_BLOCKED = _HOLD.format(unheld=_UNHELD, condition=f"NOT {NOT_BLOCKED}")

_RELEASE = f"""
    WITH seen AS MATERIALIZED (
        SELECT id FROM job WHERE held AND id > %(after)s ORDER BY id LIMIT %(limit)s
    ), free AS MATERIALIZED (
        SELECT job.id FROM job JOIN seen ON job.id = seen.id
        WHERE job.held AND NOT {PAUSED} AND {NOT_BLOCKED} AND {KNOWN_OPERATION}
        FOR NO KEY UPDATE OF job SKIP LOCKED
    ), released AS (
        UPDATE job SET held = FALSE FROM free WHERE job.id = free.id RETURNING 1
    )
    SELECT (SELECT count(*) FROM seen), (SELECT count(*) FROM released), (SELECT id FROM seen ORDER BY id DESC LIMIT 1)"""


@dataclass(frozen=True, slots=True)
class ReleaseProgress:
    """The result of one batch: jobs released, and the last one looked at; None if there are no more."""

    released: int
    last: UUID | None


def hold_front(*, queue: str, limit: int, known_operations: Collection[str]) -> int:
    """Hold those of the queue's first `limit` due jobs that cannot be claimed; return how many.

    Locks the pauses in force against a resume, then job rows, in one transaction; then for each concurrency queue its lock and
    job rows in another. Skips locked rows. Only locked pauses hold a job: one that starts later could be resumed before this
    commit. Served by job_claim. Dying in between leaves jobs that are not held.
    """
    known = list(known_operations)
    with transaction.atomic():
        locked = lock_pauses()
        waiting = fetch_all(_FRONT, queue=queue, limit=limit, known_operations=known, locked=locked)
        kept = [job_id for job_id, is_kept, *_ in waiting if is_kept]
        count = len(fetch_all(_HOLD_KEPT, job_ids=kept, known_operations=known, locked=locked)) if kept else 0
    blocked: dict[tuple[int, str, str], list[UUID]] = defaultdict(list)
    for job_id, is_kept, *concurrency_queue in waiting:
        if not is_kept:
            blocked[tuple(concurrency_queue)].append(job_id)
    for job_ids in blocked.values():
        count += hold_blocked(job_ids)
    return count


def hold_blocked(job_ids: Sequence[UUID]) -> int:
    """Hold those of these jobs, all of one concurrency queue, that are blocked in it; return how many.

    Locks the queue before the statement that looks, so that no job leaves it unseen; then job rows by job_pkey.
    """
    _, held = run_together(
        Statement(LOCK_QUEUE_OF_JOB, {"job_id": job_ids[0]}), Statement(_HOLD_BLOCKED, {"job_ids": list(job_ids)})
    )
    return len(held)


def release_held(*, after: UUID, limit: int, known_operations: Collection[str]) -> ReleaseProgress:
    """Release those of the next `limit` held jobs after the id `after` that nothing keeps.

    Locks these rows and skips locked ones; served by job_held, job_concurrency_order. A job that becomes blocked in the same
    instant is released too, which does no harm.
    """
    ((seen, released, last),) = fetch_all(_RELEASE, after=after, limit=limit, known_operations=list(known_operations))
    return ReleaseProgress(released, last if seen == limit else None)


def release_resumed_jobs(*, limit: int, known_operations: Collection[str]) -> ReleaseProgress | None:
    """Do `release_held` from the position of a resumed pause on, and move that; None if no pause was resumed.

    Locks the pause, then those jobs, in one transaction: dying in it leaves the position as it was. The last batch deletes the
    pause. A job that was skipped is found by `release_held`.
    """
    with transaction.atomic():
        pause = lock_resumed_pause()
        if pause is None:
            return None
        progress = release_held(after=pause.released_to, limit=limit, known_operations=known_operations)
        if progress.last is None:
            Pause.objects.filter(pk=pause.id).delete()
        else:
            Pause.objects.filter(pk=pause.id).update(released_to=progress.last)
    return progress
