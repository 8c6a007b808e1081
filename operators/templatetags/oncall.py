"""The admin's first page: is all well? A handful of figures, each bounded, each a link to what is behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django import template
from django.conf import settings
from django.urls import reverse
from django.utils import timezone

from operators.admin.attention_page import SHOWN
from operators.admin.timeline import lasted
from operators.attention import needs_attention, open_violations
from operators.pauses import pauses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.template.context import Context

    from jobs.models import Job

register = template.Library()


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure. `tone`: how grave it is; empty: all is well."""

    name: str
    value: str
    note: str
    address: str
    tone: str = ""


@register.inclusion_tag("operators/glance.html", takes_context=True)
def at_a_glance(context: Context) -> dict[str, Any]:
    """The figures, for who may look at jobs. A dozen statements, each served by an index and bounded."""
    if not context["request"].user.has_perm("jobs.view_job"):
        return {"figures": []}
    return {"figures": list(_figures())}


def _figures() -> Iterator[Figure]:
    attention = needs_attention(limit=SHOWN + 1)
    page = reverse("admin:jobs_job_attention")
    stuck = [*attention.overdue_leases, *attention.overdue_jobs]
    yield _count(attention.unknown, "Unknown", "A person must say what happened.", page, "doubt")
    yield _count(
        attention.partially_done, "Partially done", "Failed after a part had taken effect.", page, "bad"
    )
    yield _count(stuck, "Stuck", "Due and not taken, or a lease that nobody ends.", page, "bad")
    yield _oldest(attention.overdue_jobs, page)
    yield _count(
        attention.failed, "Failed within a day", "For good.", reverse("admin:jobs_job_errors"), "calm"
    )
    broken = open_violations(limit=SHOWN + 1)
    yield Figure(
        name="Violations",
        value=f"{SHOWN}+" if broken > SHOWN else str(broken),
        note="Promises that the self-audit found broken.",
        address=reverse("admin:jobs_violation_changelist"),
        tone="bad" if broken else "",
    )
    paused = [pause for pause in pauses() if pause.resumed_at is None]
    yield Figure(
        name="Pauses",
        value=str(len(paused)),
        note=", ".join(_what(pause.operation, pause.tenant_name) for pause in paused)
        or "Nothing is held back.",
        address=reverse("admin:jobs_pause_changelist"),
        tone="doubt" if paused else "",
    )


def _count(jobs: list[Job], name: str, note: str, address: str, tone: str) -> Figure:
    value = f"{SHOWN}+" if len(jobs) > SHOWN else str(len(jobs))
    return Figure(name=name, value=value, note=note, address=address, tone=tone if jobs else "")


def _oldest(overdue: list[Job], address: str) -> Figure:
    """The job that has been due longest, if any has been for long."""
    limit = f"{settings.OVERDUE_JOB_SECONDS:g} s"
    if not overdue:
        return Figure(
            name="Oldest due job",
            value="none",
            note=f"None has waited for more than {limit}.",
            address=address,
        )
    age = lasted(timezone.now() - min(job.run_at for job in overdue))
    return Figure(
        name="Oldest due job", value=age, note="Has been due for so long.", address=address, tone="bad"
    )


def _what(operation: str | None, tenant: str | None) -> str:
    return " of ".join(name for name in (operation, tenant) if name) or "everything"
