"""The invariants I1, I3, I4, I5 and I10 (DESIGN.md §9) are asked of the rows again: they hold, or somebody is told.

The code and the constraints are what makes them true; this is for the day when one of them, a restore or a hand at the database
does not. It reads in snapshots and changes nothing but its own notes.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING

import structlog
from django.conf import settings
from django.db import transaction

from accounts.scopes import format_scope
from idempotency import maintenance_queries as records
from idempotency.key_lifetime import find_ended
from jobs.ids import job_resource, parse_job_resource
from jobs.queries import selfaudit as queries
from jobs.queries import violations
from jobs.queries.purge import time_ago
from jobs.queries.violations import Finding
from jobs.signals import violation_found

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from uuid import UUID

    from idempotency.maintenance_queries import RecordSummary

log = structlog.get_logger(__name__)

# New ones that one run tells of, for each rule: a defect that breaks every row must not fill the log and the table as well.
_TOLD_PER_RULE = 100
_RECHECKED = 500
_LAST_RECORD = 2**63 - 1
# The version byte of an encoded payload.
_VERSION_BYTES = 1


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What one run looked at, and what it found."""

    jobs: int = 0
    keys: int = 0
    violations: int = 0  # open ones that were seen, or seen again
    new: int = 0
    resolved: int = 0
    is_complete: bool = True  # False: the time was over before all that is recent was looked at

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return self.violations == 0


def run_once(*, window: timedelta, seconds: float | None = None) -> Counts:
    """All that was accepted or ended within `window` has been looked at, the newest first, or `seconds` are over (None: never).

    What is known already is looked at again first, and resolved where it is over. Each batch is one snapshot, so that a job
    in the middle of a change is no violation. Dying anywhere loses nothing: the next run finds what is still so. Two at once
    tell each violation once, by a unique index.
    """
    ends_at = None if seconds is None else time.monotonic() + seconds
    since, known = time_ago(window), violations.open_violations(_RECHECKED)
    found: dict[tuple[str, str], Finding] = {}
    jobs: set[UUID] = set()
    keys: set[int] = set()
    resolved = _recheck(known, found)
    is_complete = True
    for job_ids, facts in chain(_by_jobs(since), _by_keys(since)):
        if ends_at is not None and time.monotonic() >= ends_at:
            is_complete = False
            break
        with queries.one_snapshot():
            _collect(_audit_jobs([job_id for job_id in job_ids if job_id not in jobs]), found)
            _collect(_audit_records(facts), found)
        jobs |= set(job_ids)
        keys |= {record.id for record in facts}
    new = _tell(list(found.values()))
    with transaction.atomic():
        violations.forget(age=timedelta(seconds=settings.JOB_RETENTION_SECONDS), limit=settings.BATCH_ROWS)
    counts = Counts(
        jobs=len(jobs),
        keys=len(keys),
        violations=len(found),
        new=new,
        resolved=resolved,
        is_complete=is_complete,
    )
    log.info("selfaudit", **asdict(counts))
    return counts


def _by_jobs(since: datetime) -> Iterator[tuple[list[UUID], list[RecordSummary]]]:
    """Batches of jobs that were accepted, then of those that ended, since then; with the records they name."""
    limit, before = settings.BATCH_ROWS, queries.LAST_ID
    while ids := queries.accepted_since(since, before=before, limit=limit):
        yield ids, _records_of(ids)
        before = ids[-1]
    last = (datetime.max.replace(tzinfo=UTC), queries.LAST_ID)
    while ended := queries.ended_since(since, before=last, limit=limit):
        ids = [job_id for job_id, _ in ended]
        yield ids, _records_of(ids)
        last = (ended[-1][1], ended[-1][0])


def _by_keys(since: datetime) -> Iterator[tuple[list[UUID], list[RecordSummary]]]:
    """Batches of the records made since then, whatever became of their jobs."""
    before = _LAST_RECORD
    while page := records.newest_records(before=before, limit=settings.BATCH_ROWS):
        recent = [record for record in page if record.created_at >= since]
        if not recent:
            return
        yield [], recent
        before = page[-1].id


def _records_of(ids: Sequence[UUID]) -> list[RecordSummary]:
    named = {record_id for *_, record_id in queries.owners_of(ids).values() if record_id is not None}
    return records.records_by_id(named) if named else []


def _audit_jobs(ids: Sequence[UUID]) -> Iterator[Finding]:
    if not ids:
        return
    for invariant, rule in queries.JOB_RULES:
        largest = settings.RESULT_MAX_BYTES + _VERSION_BYTES
        for job_id, details in queries.broken_jobs((invariant, rule), ids, result_max_bytes=largest):
            yield Finding(
                invariant=invariant, rule=rule, subject=job_resource(job_id), details=json.loads(details)
            )


def _audit_records(facts: Sequence[RecordSummary]) -> Iterator[Finding]:
    """I3: each has an answer, can be compared with a retry, and stands for a job that is there and is its own."""
    # Read again, in this snapshot: the page was read before it.
    current = records.records_by_id([record.id for record in facts]) if facts else []
    ids = [job_id for record in current if (job_id := parse_job_resource(record.resource)) is not None]
    owners = queries.owners_of(ids) if ids else {}
    for record in current:
        job_id = parse_job_resource(record.resource)
        if not record.is_answered:
            yield _about(record, "I3", "key-has-an-answer")
        if not record.can_be_compared:
            yield _about(record, "I3", "key-has-a-fingerprint")
        if record.body_bytes > settings.IDEMPOTENCY_STORED_RESPONSE_MAX_BYTES:
            yield _about(record, "I10", "answer-size", body_bytes=record.body_bytes)
        if job_id is None:
            continue
        if (owner := owners.get(job_id)) is None:
            yield _about(record, "I3", "key-has-its-job", resource=record.resource)
            continue
        tenant_id, mode, key, record_id = owner
        mine = (format_scope(tenant_id=tenant_id, mode=mode), key, record_id)
        if mine != (record.scope, record.key, record.id):
            yield _about(
                record, "I3", "job-is-the-keys-own", resource=record.resource, record_of_job=record_id
            )


def _overdue() -> Iterator[Finding]:
    """I10: what could have been deleted SELFAUDIT_LAG_SECONDS ago is still there. Only the oldest few are asked."""
    lag = timedelta(seconds=settings.SELFAUDIT_LAG_SECONDS)
    kept = timedelta(seconds=settings.JOB_RETENTION_SECONDS)
    with queries.one_snapshot():
        late = records.overdue_records(age=lag, limit=settings.BATCH_ROWS)
        ended = find_ended({record.resource for record in late})
        free = [record.expires_at for record in late if record.resource in ended]
        past = queries.overdue_jobs(age=kept + lag, limit=settings.BATCH_ROWS)
        named = {record_id for *_, record_id in past if record_id is not None}
        held = {record.id: record.resource for record in records.records_by_id(named)} if named else {}
    left = [
        at
        for job_id, at, record_id in past
        if record_id is None or held.get(record_id) != job_resource(job_id)
    ]
    for subject, times in (("purge/keys", free), ("purge/jobs", left)):
        if times:
            details = {"at_least": len(times), "oldest": min(times).isoformat()}
            yield Finding(invariant="I10", rule="purge-keeps-pace", subject=subject, details=details)


def _recheck(known: Sequence[tuple[str, str]], found: dict[tuple[str, str], Finding]) -> int:
    """What was found earlier is looked at again, however old; returns how many of them are over."""
    ids = [job_id for _, subject in known if (job_id := parse_job_resource(subject)) is not None]
    numbers = [int(subject.removeprefix("record/")) for _, subject in known if subject.startswith("record/")]
    with queries.one_snapshot():
        _collect(_audit_jobs(ids), found)
        _collect(_audit_records(records.records_by_id(numbers) if numbers else []), found)
    _collect(_overdue(), found)
    over = [one for one in known if one not in found]
    return violations.resolve(over) if over else 0


def _collect(findings: Iterable[Finding], found: dict[tuple[str, str], Finding]) -> None:
    """One for each rule and subject: of a job with three wrong steps the first is told."""
    for finding in findings:
        found.setdefault((finding.rule, finding.subject), finding)


def _tell(findings: Sequence[Finding]) -> int:
    """The findings are noted; whoever listens, and the log, hear of those that are new. Returns how many those are."""
    by_rule: dict[str, list[Finding]] = {}
    for finding in findings:
        by_rule.setdefault(finding.rule, []).append(finding)
    some = [finding for group in by_rule.values() for finding in group[:_TOLD_PER_RULE]]
    if not some:
        return 0
    new = violations.note(some)
    for finding in new:
        log.error(
            "selfaudit.violation",
            invariant=finding.invariant,
            rule=finding.rule,
            subject=finding.subject,
            **{f"found_{name}": value for name, value in finding.details.items()},
        )
        violation_found.send_robust(sender=None, finding=finding)
    return len(new)


def _about(record: RecordSummary, invariant: str, rule: str, **details: object) -> Finding:
    """A finding about a record, by its number: a key is its client's secret."""
    return Finding(invariant=invariant, rule=rule, subject=f"record/{record.id}", details=details)
