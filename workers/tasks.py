"""The Celery tasks. Each body calls one function."""

from datetime import timedelta
from uuid import UUID

from celery import shared_task
from django.conf import settings

from broker.hints import RUN_JOB_TASK
from jobs import selfaudit
from workers import purge, sweep
from workers.backlog import run_hint

# Set both limits to the same value. The default soft limit is above this hard limit, and then beat does not send the task at all.
IN_TIME = dict.fromkeys(("time_limit", "soft_time_limit"), settings.MAINTENANCE_TIME_LIMIT_SECONDS)


@shared_task(name=RUN_JOB_TASK)
def run_job(job_id: str, queue: str) -> None:
    """Run the job if it is due, then help with the backlog of the queue."""
    run_hint(UUID(job_id), queue)


@shared_task(name="workers.sweep", acks_late=False, **IN_TIME)
def run_sweep() -> None:
    """Sweep once."""
    sweep.run_once()


@shared_task(name="workers.purge", acks_late=False, **IN_TIME)
def run_purge() -> None:
    """Purge for PURGE_BUDGET_SECONDS."""
    purge.run_once(seconds=settings.PURGE_BUDGET_SECONDS)


@shared_task(name="workers.selfaudit", acks_late=False, **IN_TIME)
def run_selfaudit() -> None:
    """Audit the last SELFAUDIT_WINDOW_SECONDS."""
    window = timedelta(seconds=settings.SELFAUDIT_WINDOW_SECONDS)
    selfaudit.run_once(window=window, seconds=settings.SELFAUDIT_BUDGET_SECONDS)
