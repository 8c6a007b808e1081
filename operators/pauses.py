"""Pause and resume the jobs of an operation, of a tenant, of both together, or all jobs (a drain).

The API accepts jobs as before. Paused jobs are not claimed; running jobs continue to their end; deadlines still expire. A claim
that was under way at the instant of the pause may still succeed: `list_pauses` counts it a moment later. A paused job keeps
its place at the head of its concurrency queue and blocks the jobs behind it, of whatever operation, because the client
requested that order.
"""

from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from accounts import audit
from accounts.models import Tenant
from jobs.errors import AlreadyPaused, NotPaused
from jobs.models import Pause
from jobs.queries.pauses import count_running
from operators.job_actions import require_note

_MAX_OPERATION_LENGTH = 100  # the column's


def pause(*, operation: str | None = None, tenant_id: int | None = None, actor: str, note: str) -> Pause:
    """Stop claiming the jobs of this operation and tenant; with neither, all jobs. Audited.

    Raises ValueError for a blank note, a bad operation name or an unknown tenant, AlreadyPaused for the same pause twice.
    """
    note = require_note(note)
    if operation is not None and not 0 < len(operation) <= _MAX_OPERATION_LENGTH:
        raise ValueError(f"The name of an operation has 1 to {_MAX_OPERATION_LENGTH} characters.")
    tenant = None if tenant_id is None else Tenant.objects.filter(pk=tenant_id).first()
    if tenant is None and tenant_id is not None:
        raise ValueError("This tenant does not exist.")
    try:
        with transaction.atomic():
            created = Pause.objects.create(operation=operation, tenant=tenant, by=actor, note=note)
            _audit("pause", created, actor, note)
    except IntegrityError as error:
        raise AlreadyPaused from error
    return created


def resume(*, pause_id: int, actor: str, note: str = "") -> None:
    """End the pause. The sweeper then releases the jobs that it held. Audited.

    Raises NotPaused if it was already resumed. Waits for a sweep that is holding jobs under this pause. A crash after the
    commit loses nothing: the row stays until all held jobs have been looked at.
    """
    with transaction.atomic():
        if not Pause.objects.filter(pk=pause_id, resumed_at=None).update(resumed_at=Now()):
            raise NotPaused
        _audit("resume", Pause.objects.select_related("tenant").get(pk=pause_id), actor, note)


def list_pauses() -> list[tuple[Pause, int]]:
    """Return all pauses, oldest first, each with its attempts that still run; 0 means drained.

    A resumed pause is listed until its held jobs are released. Two statements on a tiny table.
    """
    pauses = list(Pause.objects.select_related("tenant").order_by("id"))
    running = count_running([pause.id for pause in pauses]) if pauses else {}
    return [(pause, running.get(pause.id, 0)) for pause in pauses]


def _audit(action: str, pause: Pause, actor: str, note: str) -> None:
    details = {"operation": pause.operation, "tenant": pause.tenant.name if pause.tenant else None}
    audit.record(actor=actor, action=action, subject=f"pause/{pause.id}", note=note, details=details)
