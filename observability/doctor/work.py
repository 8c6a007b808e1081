"""Check that due jobs run, sweeps happen, no job waits for an operator, and stored keys can still be compared."""

from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.core.checks import CheckMessage
from django.db.models.functions import Now

from idempotency.fingerprint import parse_keyring
from idempotency.models import IdempotencyRecord
from jobs.models import Job
from jobs.queries.attention import overdue_leases
from jobs.queries.statistics import count_by_operation, due_jobs
from jobs.states import State
from observability.doctor.findings import judge

_WAIT_WARNING_SECONDS, _WAIT_ERROR_SECONDS = 60, 600
_UNKNOWN_COUNTED = 1_000


def findings() -> Iterator[CheckMessage]:
    """Examine what waits for a worker, a sweep or an operator, and whether a fingerprint secret is missing."""
    oldest = max((queue.oldest_seconds for queue in due_jobs(at_most=1)), default=0.0)
    yield judge(
        "work.oldest_due",
        f"The oldest due job has waited for {oldest:.0f} s." if oldest else "No due job waits.",
        error=oldest >= _WAIT_ERROR_SECONDS,
        warning=oldest >= _WAIT_WARNING_SECONDS,
    )
    seconds = settings.SWEEP_SECONDS * 6
    is_late = _sweep_is_late(seconds)
    found = f"A lease or deadline ended more than {seconds:g} s ago." if is_late else "Nothing waits for a sweep."
    yield judge("work.sweep", found, error=is_late and _sweep_is_late(seconds * 10), warning=is_late)
    unknown = sum(count_by_operation(State.UNKNOWN, at_most=_UNKNOWN_COUNTED).values())
    if unknown:
        yield judge("work.unknown", f"{unknown} jobs are in `unknown`.", warning=True)
    kids = parse_keyring(tuple(settings.IDEMPOTENCY_FINGERPRINT_KEYS))
    others = IdempotencyRecord.objects.exclude(fingerprint_kid__in=kids)
    missing = list(others.values_list("fingerprint_kid", flat=True).distinct()[:5])
    found = f"Kids of stored records that are not configured: {', '.join(missing) or 'none'}."
    yield judge("work.fingerprint_keys", found, warning=bool(missing))


def _sweep_is_late(seconds: float) -> bool:
    """Return whether a lease or a deadline ended longer ago. Served by job_running and job_queued_by_deadline."""
    age = timedelta(seconds=seconds)
    lapsed = Job.objects.filter(state=State.QUEUED, deadline_at__lte=Now() - age, open_effects=0, done_effects=0)
    return bool(overdue_leases(age=age, limit=1)) or lapsed.exists()
