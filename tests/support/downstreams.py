"""A downstream that remembers: what an effect's call and its reconciliation meet."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from jobs.models import Job, JobStep
from tests.support.factories import make_due
from tests.support.scenarios import age_step
from workers.executor import execute_job

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID


class Downstream:
    """Counts calls by key; each call meets the next of the `answers` (a value, an exception or a function of the key)."""

    def __init__(self, *answers: Any, finds: Any = None) -> None:
        self.answers = list(answers)
        self.finds = finds
        self.calls: list[str] = []
        self.questions: list[str] = []

    def call(self, key: str) -> Any:
        self.calls.append(key)
        return self._meet(self.answers.pop(0), key)

    def reconcile(self, key: str) -> Any:
        self.questions.append(key)
        return self._meet(self.finds, key)

    def _meet(self, answer: Any, key: str) -> Any:
        if isinstance(answer, BaseException) or (isinstance(answer, type) and issubclass(answer, BaseException)):
            raise answer
        return answer(key) if callable(answer) else answer


def charging(downstream: Downstream, *, asks: bool = False, **options: Any) -> Callable[..., Any]:
    """A script with the one effect "charge"; `asks`: it can be reconciled."""
    if asks:
        options["reconcile"] = downstream.reconcile

    def perform(job: Any) -> Any:
        return {"charge": job.effect("charge", downstream.call, **options)}

    return perform


def run(job_id: UUID) -> Job:
    """The job after one delivery, whenever its next attempt would have been due."""
    if Job.objects.get(pk=job_id).state == "queued":
        make_due(job_id)
    execute_job(job_id)
    return Job.objects.get(pk=job_id)


def step_of(job: Job, name: str = "charge") -> JobStep:
    """The job's step of that name."""
    return JobStep.objects.get(job_id=job.id, name=name)


def later(job: Job, name: str = "charge", *, by: timedelta = timedelta(days=2)) -> None:
    """So much time has gone by since the effect began."""
    age_step(job.id, name, by)
