"""The Celery tasks. Their bodies call one function each; what they do is told there."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from celery import shared_task
from django.conf import settings

from broker.hints import RUN_JOB_TASK
from jobs import selfaudit as audit
from workers import purger, sweeper
from workers.executor import execute_job


@shared_task(name=RUN_JOB_TASK)
def run_job(job_id: str) -> None:
    """Run the job, if it can be claimed."""
    execute_job(UUID(job_id))


# Both alike: a soft limit above the hard one, as the default is, would keep beat from sending at all.
IN_TIME = dict.fromkeys(("time_limit", "soft_time_limit"), settings.MAINTENANCE_TIME_LIMIT_SECONDS)


@shared_task(name="workers.sweep", acks_late=False, **IN_TIME)
def sweep() -> None:
    """One sweep; the next tick does the rest."""
    sweeper.run_once()


@shared_task(name="workers.purge", acks_late=False, **IN_TIME)
def purge() -> None:
    """One purge; the next tick does the rest."""
    purger.run_once(seconds=settings.PURGE_BUDGET_SECONDS)


@shared_task(name="workers.selfaudit", acks_late=False, **IN_TIME)
def selfaudit() -> None:
    """One self-audit of what is recent."""
    window = timedelta(seconds=settings.SELFAUDIT_WINDOW_SECONDS)
    audit.run_once(window=window, seconds=settings.SELFAUDIT_BUDGET_SECONDS)
