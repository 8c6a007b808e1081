"""The Celery task of bulk actions."""

from __future__ import annotations

from celery import shared_task
from django.conf import settings

from operators import bulk_runner
from workers.tasks import IN_TIME


@shared_task(name="operators.bulk", acks_late=False, **IN_TIME)
def bulk_act() -> None:
    """A slice of what operators began for many jobs; the next tick goes on."""
    bulk_runner.run_once(seconds=settings.BULK_BUDGET_SECONDS)
