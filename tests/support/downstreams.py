"""A fake downstream for effects: it returns prepared answers and records calls and look-ups."""

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
    """Records the key of each call. Each call uses the next of `answers`.

    It returns a value, raises an exception, or calls a function with the key.
    """

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
    """Return a script with one effect, "charge". With `can_reconcile` the effect has a `reconcile` function."""
    if asks:
        options["reconcile"] = downstream.reconcile

    def perform(job: Any) -> Any:
        return {"charge": job.effect("charge", downstream.call, **options)}

    return perform


def run(job_id: UUID) -> Job:
    """Make the queued job due, deliver its message once, and return the job."""
    if Job.objects.get(pk=job_id).state == "queued":
        make_due(job_id)
    execute_job(job_id)
    return Job.objects.get(pk=job_id)


def step_of(job: Job, name: str = "charge") -> JobStep:
    """The job's step of that name."""
    return JobStep.objects.get(job_id=job.id, name=name)


def later(job: Job, name: str = "charge", *, by: timedelta = timedelta(days=2)) -> None:
    """Move the start of the effect into the past by `by`."""
    age_step(job.id, name, by)
