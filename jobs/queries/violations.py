"""The rows of what the self-audit has found."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db import connection

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

# One open row for each rule and subject: a violation that is found again is seen again, and not told again.
# The clock is read once, since a row is new whose two times are one.
_NOTE = """
    WITH seen AS MATERIALIZED (SELECT clock_timestamp() AS at)
    INSERT INTO violation AS known (invariant, rule, subject, details, first_seen_at, last_seen_at)
    SELECT told.invariant, told.rule, told.subject, told.details::jsonb, seen.at, seen.at
    FROM seen, unnest(%(invariants)s::text[], %(rules)s::text[], %(subjects)s::text[], %(details)s::text[])
        AS told (invariant, rule, subject, details)
    ON CONFLICT (rule, subject) WHERE resolved_at IS NULL
        DO UPDATE SET last_seen_at = EXCLUDED.last_seen_at, details = EXCLUDED.details
    RETURNING rule, subject, first_seen_at = last_seen_at"""
_OPEN = (
    "SELECT rule, subject FROM violation WHERE resolved_at IS NULL ORDER BY last_seen_at, id LIMIT %(limit)s"
)
_RESOLVE = """
    UPDATE violation SET resolved_at = clock_timestamp()
    FROM unnest(%(rules)s::text[], %(subjects)s::text[]) AS told (rule, subject)
    WHERE violation.rule = told.rule AND violation.subject = told.subject AND violation.resolved_at IS NULL"""
_FORGET = """
    DELETE FROM violation WHERE id = ANY (ARRAY (
        SELECT id FROM violation WHERE resolved_at <= (SELECT clock_timestamp()) - %(age)s LIMIT %(limit)s))"""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A rule of an invariant that a subject ("job/<id>", "record/<id>", "purge/<kind>") breaks. Details are figures and names."""

    invariant: str
    rule: str
    subject: str
    details: dict[str, Any] = field(default_factory=dict, hash=False)


def note(findings: Sequence[Finding]) -> list[Finding]:
    """Each finding stands in the table; returns those that were not known. Each rule and subject may be named once."""
    values = {
        "invariants": [one.invariant for one in findings],
        "rules": [one.rule for one in findings],
        "subjects": [one.subject for one in findings],
        "details": [json.dumps(one.details) for one in findings],
    }
    with connection.cursor() as cursor:
        cursor.execute(_NOTE, values)
        new = {(rule, subject) for rule, subject, is_new in cursor.fetchall() if is_new}
    return [one for one in findings if (one.rule, one.subject) in new]


def open_violations(limit: int) -> list[tuple[str, str]]:
    """Rule and subject of those that are not resolved, the longest unseen first. Served by violation_open."""
    with connection.cursor() as cursor:
        cursor.execute(_OPEN, {"limit": limit})
        rows: list[tuple[str, str]] = cursor.fetchall()
    return rows


def resolve(violations: Sequence[tuple[str, str]]) -> int:
    """These are over; returns how many were open."""
    with connection.cursor() as cursor:
        cursor.execute(
            _RESOLVE,
            {"rules": [rule for rule, _ in violations], "subjects": [subject for _, subject in violations]},
        )
        count: int = cursor.rowcount
    return count


def forget(*, age: timedelta, limit: int) -> None:
    """Those that were resolved so long ago are gone, at most so many."""
    values: dict[str, Any] = {"age": age, "limit": limit}
    with connection.cursor() as cursor:
        cursor.execute(_FORGET, values)
