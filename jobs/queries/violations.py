"""The violations that the self-audit has found."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from foundation.statements import execute, fetch_all

# One open row per rule and subject: a violation that is found again updates last_seen_at and is not reported again.
# The clock is read once, because equal times mark a new row.
_RECORD = """
    WITH seen AS MATERIALIZED (SELECT clock_timestamp() AS at)
    INSERT INTO violation AS known (invariant, rule, subject, details, first_seen_at, last_seen_at)
    SELECT found.invariant, found.rule, found.subject, found.details::jsonb, seen.at, seen.at
    FROM seen, unnest(%(invariants)s::text[], %(rules)s::text[], %(subjects)s::text[], %(details)s::text[])
        AS found (invariant, rule, subject, details)
    ON CONFLICT (rule, subject) WHERE resolved_at IS NULL
        DO UPDATE SET last_seen_at = EXCLUDED.last_seen_at, details = EXCLUDED.details
    RETURNING rule, subject, first_seen_at = last_seen_at"""
_OPEN = "SELECT rule, subject FROM violation WHERE resolved_at IS NULL ORDER BY last_seen_at, id LIMIT %(limit)s"
_RESOLVE = """
    UPDATE violation SET resolved_at = clock_timestamp()
    FROM unnest(%(rules)s::text[], %(subjects)s::text[]) AS found (rule, subject)
    WHERE violation.rule = found.rule AND violation.subject = found.subject AND violation.resolved_at IS NULL"""
_DELETE_RESOLVED = """
    DELETE FROM violation WHERE id = ANY (ARRAY (
        SELECT id FROM violation WHERE resolved_at <= (SELECT clock_timestamp()) - %(age)s LIMIT %(limit)s))"""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A rule of an invariant that a subject ("job/<id>", "record/<id>", "purge/<kind>") breaks. Details hold no payload."""

    invariant: str
    rule: str
    subject: str
    details: dict[str, Any] = field(default_factory=dict, hash=False)


def record_findings(findings: Sequence[Finding]) -> list[Finding]:
    """Record the findings and return the new ones. Each rule and subject may occur once."""
    rows = fetch_all(
        _RECORD,
        invariants=[one.invariant for one in findings],
        rules=[one.rule for one in findings],
        subjects=[one.subject for one in findings],
        details=[json.dumps(one.details) for one in findings],
    )
    new = {(rule, subject) for rule, subject, is_new in rows if is_new}
    return [one for one in findings if (one.rule, one.subject) in new]


def open_violations(limit: int) -> list[tuple[str, str]]:
    """Return rule and subject of unresolved violations, longest unseen first. Served by violation_open."""
    return [(rule, subject) for rule, subject in fetch_all(_OPEN, limit=limit)]


def resolve_violations(violations: Sequence[tuple[str, str]]) -> int:
    """Mark these as resolved and return how many were open."""
    rules, subjects = [rule for rule, _ in violations], [subject for _, subject in violations]
    return execute(_RESOLVE, rules=rules, subjects=subjects)


def delete_resolved_violations(*, age: timedelta, limit: int) -> None:
    """Delete up to `limit` violations that were resolved at least `age` ago."""
    execute(_DELETE_RESOLVED, age=age, limit=limit)
