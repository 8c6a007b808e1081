"""Check invariants I1, I3, I4, I5 and I10 (docs/explanation/reliability.md) on recent rows, and report each violation once.

The code and the database constraints enforce the invariants. The self-audit finds rows that break one after a defect, a
restore or a manual change. It reads snapshots and writes only the table `violation`.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING
from uuid import UUID

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
    from idempotency.maintenance_queries import RecordSummary

    # By rule and subject.
    Findings = dict[tuple[str, str], Finding]

log = structlog.get_logger(__name__)

# New violations that one run reports per rule: a defect that breaks every row must not fill the log and the table.
_REPORTED_PER_RULE = 100
_RECHECKED = 500
_LAST_RECORD = 2**63 - 1
# The version byte of an encoded payload.
_VERSION_BYTES = 1
# More than the headers of a stored response take beside its body.
_HEADERS_BYTES = 16_384
_RECORD = "record/"


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What one run checked and found."""

    jobs: int = 0
    keys: int = 0
    violations: int = 0  # open ones, new or known
    new: int = 0
    resolved: int = 0
    is_complete: bool = True  # False: the time was over before all recent rows were checked

    @property
    def is_clean(self) -> bool:
        """True if no violation was found."""
        return self.violations == 0


def run_once(*, window: timedelta, seconds: float | None = None) -> Counts:
    """Check what was accepted or ended within `window`, newest first, for at most `seconds` (None: no limit).

    First checks known violations again, and resolves those that are gone. Each batch is one snapshot, so that a job that changes
    meanwhile is no violation. A crash loses nothing: the next run finds what is still wrong. Of two runs at once, one reports
    each violation, by a unique index.
    """
    ends_at = None if seconds is None else time.monotonic() + seconds
    since, known = time_ago(window), violations.open_violations(_RECHECKED)
    found: Findings = {}
    jobs: set[UUID] = set()
    keys: set[int] = set()
    resolved = _recheck(known, found)
    is_complete = True
    for job_ids, batch in chain(_job_batches(since), _record_batches(since)):
        if ends_at is not None and time.monotonic() >= ends_at:
            is_complete = False
            break
        with queries.one_snapshot():
            _collect(_check_jobs([job_id for job_id in job_ids if job_id not in jobs]), found)
            _collect(_check_records([record.id for record in batch]), found)
        jobs.update(job_ids)
        keys.update(record.id for record in batch)
    new = _report(found.values())
    with transaction.atomic():
        violations.delete_resolved_violations(
            age=timedelta(seconds=settings.JOB_RETENTION_SECONDS), limit=settings.BATCH_ROWS
        )
    counts = Counts(
        jobs=len(jobs), keys=len(keys), violations=len(found), new=new, resolved=resolved, is_complete=is_complete
    )
    log.info("selfaudit", **asdict(counts))
    return counts


def _job_batches(since: datetime) -> Iterator[tuple[list[UUID], list[RecordSummary]]]:
    """Yield jobs accepted since then, then jobs ended since then, each with their records."""
    limit, before = settings.BATCH_ROWS, queries.LAST_ID
    while ids := queries.accepted_since(since, before=before, limit=limit):
        yield ids, _records_of(ids)
        before = ids[-1]
    last = (datetime.max.replace(tzinfo=UTC), queries.LAST_ID)
    while ended := queries.ended_since(since, before=last, limit=limit):
        ids = [job_id for job_id, _ in ended]
        yield ids, _records_of(ids)
        last = (ended[-1][1], ended[-1][0])


def _record_batches(since: datetime) -> Iterator[tuple[list[UUID], list[RecordSummary]]]:
    """Yield records created since then, whether or not their jobs still exist."""
    before = _LAST_RECORD
    while page := records.newest_records(before=before, limit=settings.BATCH_ROWS):
        recent = [record for record in page if record.created_at >= since]
        if not recent:
            return
        yield [], recent
        before = page[-1].id


def _records_of(job_ids: Sequence[UUID]) -> list[RecordSummary]:
    record_ids = {record_id for *_, record_id in queries.owners_of(job_ids).values() if record_id is not None}
    return records.records_by_id(record_ids) if record_ids else []


def _check_jobs(ids: Sequence[UUID]) -> Iterator[Finding]:
    if not ids:
        return
    largest = settings.RESULT_MAX_BYTES + _VERSION_BYTES
    for invariant, rule in queries.JOB_RULES:
        for job_id, details in queries.broken_jobs((invariant, rule), ids, result_max_bytes=largest):
            yield Finding(invariant=invariant, rule=rule, subject=job_resource(job_id), details=json.loads(details))
    yield from _check_keys_of_live_jobs(ids)


def _check_keys_of_live_jobs(ids: Sequence[UUID]) -> Iterator[Finding]:
    """I3: of the jobs of one key only one has not ended. While a job has not ended, the record of its key names it."""
    keys = {
        job_id: (format_scope(tenant_id=tenant, mode=mode), key) for job_id, tenant, mode, key in queries.live_keys(ids)
    }
    resources = records.resources_by_key(keys.values()) if keys else {}
    for job_id, key in keys.items():
        if (other := resources.get(key)) not in (None, job_resource(job_id)):
            subject = job_resource(job_id)
            yield Finding(invariant="I3", rule="two-jobs-of-one-key", subject=subject, details={"other": other})


def _check_records(record_ids: Sequence[int]) -> Iterator[Finding]:
    """I3: each record has an answer and a fingerprint, and its job exists and belongs to it. I10: the answer is not too large."""
    # Read in this snapshot, even if the caller read them before.
    current = records.records_by_id(record_ids) if record_ids else []
    ids = [job_id for record in current if (job_id := parse_job_resource(record.resource)) is not None]
    owners = queries.owners_of(ids) if ids else {}
    for record in current:
        if not record.is_answered:
            yield _about(record, "I3", "key-has-an-answer")
        if not record.can_be_compared:
            yield _about(record, "I3", "key-has-a-fingerprint")
        if record.response_bytes > settings.IDEMPOTENCY_STORED_RESPONSE_MAX_BYTES + _HEADERS_BYTES:
            yield _about(record, "I10", "answer-size", response_bytes=record.response_bytes)
        job_id = parse_job_resource(record.resource)
        if job_id is None:
            continue
        if (owner := owners.get(job_id)) is None:
            yield _about(record, "I3", "key-has-its-job", resource=record.resource)
            continue
        tenant_id, mode, key, record_id = owner
        scope = format_scope(tenant_id=tenant_id, mode=mode)
        if (scope, key, record_id) != (record.scope, record.key, record.id):
            yield _about(record, "I3", "job-is-the-keys-own", resource=record.resource, record_of_job=record_id)


def _check_purge() -> Iterator[Finding]:
    """I10: the purge deleted what could be deleted SELFAUDIT_LAG_SECONDS ago. Checks only the oldest rows."""
    lag = timedelta(seconds=settings.SELFAUDIT_LAG_SECONDS)
    retention = timedelta(seconds=settings.JOB_RETENTION_SECONDS)
    with queries.one_snapshot():
        expired = records.overdue_records(age=lag, limit=settings.BATCH_ROWS)
        ended = find_ended({record.resource for record in expired})
        jobs = queries.overdue_jobs(age=retention + lag, limit=settings.BATCH_ROWS)
        record_ids = {record_id for *_, record_id in jobs if record_id is not None}
        existing = records.records_by_id(record_ids) if record_ids else []
    resources = {record.id: record.resource for record in existing}
    overdue_keys = [record.expires_at for record in expired if record.resource in ended]
    overdue_jobs = [
        finished_at
        for job_id, finished_at, record_id in jobs
        if record_id is None or resources.get(record_id) != job_resource(job_id)
    ]
    for subject, times in (("purge/keys", overdue_keys), ("purge/jobs", overdue_jobs)):
        if times:
            details = {"at_least": len(times), "oldest": min(times).isoformat()}
            yield Finding(invariant="I10", rule="purge-keeps-pace", subject=subject, details=details)


def _recheck(known: Sequence[tuple[str, str]], found: Findings) -> int:
    """Check known violations again, however old; return how many are resolved."""
    job_ids = [job_id for _, subject in known if (job_id := parse_job_resource(subject)) is not None]
    record_ids = [int(subject.removeprefix(_RECORD)) for _, subject in known if subject.startswith(_RECORD)]
    with queries.one_snapshot():
        _collect(_check_jobs(job_ids), found)
        _collect(_check_records(record_ids), found)
    _collect(_check_purge(), found)
    gone = [violation for violation in known if violation not in found]
    return violations.resolve_violations(gone) if gone else 0


def _collect(findings: Iterable[Finding], found: Findings) -> None:
    """Keep one finding for each rule and subject: of a job with three wrong steps, the first."""
    for finding in findings:
        found.setdefault((finding.rule, finding.subject), finding)


def _report(findings: Iterable[Finding]) -> int:
    """Store the findings; log and signal the new ones. Return how many are new."""
    by_rule = defaultdict(list)
    for finding in findings:
        by_rule[finding.rule].append(finding)
    reported = [finding for group in by_rule.values() for finding in group[:_REPORTED_PER_RULE]]
    new = violations.record_findings(reported) if reported else []
    for finding in new:
        details = {f"found_{name}": value for name, value in finding.details.items()}
        log.error(
            "selfaudit.violation", invariant=finding.invariant, rule=finding.rule, subject=finding.subject, **details
        )
        violation_found.send_robust(sender=None, finding=finding)
    return len(new)


def _about(record: RecordSummary, invariant: str, rule: str, **details: object) -> Finding:
    """Return a finding about a record. It contains the record's id, not its key, because the key may be secret."""
    return Finding(invariant=invariant, rule=rule, subject=f"{_RECORD}{record.id}", details=details)
