"""Pause and resume: of an operation, of a tenant, of one's jobs of the other, or of everything (a drain).

The API accepts as before. Nothing that is paused is claimed; what runs already ends; deadlines pass as ever. A claim that was
under way in the instant of the pause may still come through: `running` counts it a moment later. A paused job keeps its
place at the head of its concurrency key's line, and who stands behind it waits, of whatever operation: the order of that line
is what the client asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from accounts import audit
from accounts.models import Tenant
from jobs.errors import AlreadyPaused, NotPaused
from jobs.models import Pause
from jobs.queries.pauses import count_running
from operators.job_actions import noted

if TYPE_CHECKING:
    from datetime import datetime

_OPERATION_MAX = 100  # characters, as the column has it


@dataclass(frozen=True, kw_only=True)
class PauseView:
    """A pause as an operator sees it."""

    id: int
    operation: str | None  # None: of every operation
    tenant_id: int | None  # None: of every tenant
    tenant_name: str | None
    by: str
    at: datetime
    note: str
    resumed_at: datetime | None  # since then its parked jobs are being made due, and it is about to vanish
    running: int  # attempts that go on under it; 0: drained


def pause(*, operation: str | None = None, tenant_id: int | None = None, actor: str, note: str) -> Pause:
    """From now on no such job is claimed; neither named: none at all. Audited.

    Raises ValueError for a blank note or name or an unknown tenant, AlreadyPaused where there is the very same pause.
    """
    note = noted(note)
    if operation is not None and not 0 < len(operation) <= _OPERATION_MAX:
        raise ValueError(f"An operation's name has 1 to {_OPERATION_MAX} characters.")
    tenant = None if tenant_id is None else Tenant.objects.filter(pk=tenant_id).first()
    if tenant is None and tenant_id is not None:
        raise ValueError("There is no such tenant.")
    try:
        with transaction.atomic():
            made = Pause.objects.create(operation=operation, tenant=tenant, by=actor, note=note)
            _record("pause", made, actor, note)
    except IntegrityError as error:
        raise AlreadyPaused from error
    return made


def resume(*, pause_id: int, actor: str, note: str = "") -> None:
    """The pause holds nobody back any more; the sweeper publishes what waited, as fast as the queues have room. Audited.

    Raises NotPaused where it was resumed before. Waits for a sweep that parks jobs by it just now. Dying after the commit
    changes nothing: the row stays until the walk over the parked jobs is done.
    """
    with transaction.atomic():
        if not Pause.objects.filter(pk=pause_id, resumed_at=None).update(resumed_at=Now()):
            raise NotPaused
        _record("resume", Pause.objects.select_related("tenant").get(pk=pause_id), actor, note)


def pauses() -> list[PauseView]:
    """All pauses, the oldest first, with how many attempts still run under each. Two statements; the table is tiny."""
    found = list(Pause.objects.select_related("tenant").order_by("id"))
    running = count_running([pause.id for pause in found]) if found else {}
    return [
        PauseView(
            id=pause.id,
            operation=pause.operation,
            tenant_id=pause.tenant_id,
            tenant_name=pause.tenant.name if pause.tenant else None,
            by=pause.by,
            at=pause.at,
            note=pause.note,
            resumed_at=pause.resumed_at,
            running=running.get(pause.id, 0),
        )
        for pause in found
    ]


def _record(action: str, pause: Pause, actor: str, note: str) -> None:
    details = {"operation": pause.operation, "tenant": pause.tenant.name if pause.tenant else None}
    audit.record(actor=actor, action=action, subject=f"pause/{pause.id}", note=note, details=details)
