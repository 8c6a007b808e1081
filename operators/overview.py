"""The tiles on the admin's first page: numbers, each with a link to what it counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.conf import settings
from django.urls import reverse
from django.utils import timezone

from operators.attention import count_text, needs_attention, open_violations
from operators.pauses import list_pauses
from operators.timeline import format_duration

if TYPE_CHECKING:
    from jobs.models import Job


@dataclass(frozen=True)
class Tile:
    """One number. `tone` is the colour; an empty one means that all is well."""

    name: str
    value: str
    note: str
    link: str
    tone: str


def build_tiles() -> list[Tile]:
    """Return the tiles. Each of their dozen statements is served by an index and bounded."""
    attention, violations = needs_attention(), open_violations()
    page, errors = reverse("admin:jobs_job_attention"), reverse("admin:jobs_job_errors")
    stuck = [*attention.overdue_leases, *attention.overdue_jobs]
    counted = (
        ("Unknown", attention.unknown, "An operator must give a verdict.", page, "warn"),
        ("Partially done", attention.partially_done, "Failed after some effects were done.", page, "bad"),
        ("Stuck", stuck, "Due but not claimed, or with an expired lease.", page, "bad"),
        ("Failed in the last day", attention.failed, "Ended without success.", errors, "calm"),
        (
            *("Violations", violations, "Broken invariants, found by the self-audit."),
            *(reverse("admin:jobs_violation_changelist"), "bad"),
        ),
    )
    tiles = [Tile(name, count_text(rows), note, link, tone if rows else "") for name, rows, note, link, tone in counted]
    tiles.insert(3, _oldest_job(attention.overdue_jobs, page))
    return [*tiles, _pauses()]


def _oldest_job(overdue: list[Job], link: str) -> Tile:
    """Return the age of the job that has been due longest, if any is overdue."""
    if not overdue:
        limit = f"{settings.OVERDUE_JOB_SECONDS:g} s"
        return Tile("Oldest due job", "none", f"No job has been due for more than {limit}.", link, "")
    age = format_duration(timezone.now() - min(job.run_at for job in overdue))
    return Tile("Oldest due job", age, "Time since the job became due.", link, "bad")


def _pauses() -> Tile:
    paused = [pause for pause, _ in list_pauses() if pause.resumed_at is None]
    names = [
        " of ".join(str(name) for name in (pause.operation, pause.tenant) if name) or "everything" for pause in paused
    ]
    note, link = ", ".join(names) or "Nothing is paused.", reverse("admin:jobs_pause_changelist")
    return Tile("Pauses", str(len(paused)), note, link, "warn" if paused else "")
