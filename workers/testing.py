"""Test operations: run a job to its end in this process, simulate a crash of its worker at any fault point, count its calls.

    def test_a_charge_is_made_once_wherever_its_worker_dies(tenant):
        for crash in every_crash(lambda: run_operation("payments.charge", PARAMS, tenant_id=tenant.id)):
            finished = run_operation("payments.charge", PARAMS, tenant_id=tenant.id, crash=crash)
            assert finished.job.state == "succeeded"

Rows, claims, leases and steps are real. No broker and no other process takes part, and nothing waits: a job that is due later is
made due by moving its instants into the past.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from foundation.fault_points import POINTS, watch
from jobs import transitions
from jobs.models import Job, JobStep
from jobs.payloads import decode_payload
from jobs.registry import current_operation, forget_operations
from jobs.states import State
from jobs.submission import Submission, submit_job
from workers.executor import execute_job

if TYPE_CHECKING:
    from jobs.operations import Operation

# The fault points at which a worker can die while it runs a job.
PLACES = POINTS[POINTS.index("after_claim") : POINTS.index("before_ack")]
# More than any job needs: attempts, postponements and the attempt that only reconciles.
_DELIVERIES_MAX = 50


class WorkerDied(BaseException):
    """The worker is dead: no code handles this, and nothing more is written."""


@contextmanager
def registered(*operations: type[Operation]) -> Iterator[None]:
    """Register these operations inside the block, in addition to settings.OPERATIONS."""
    paths = [f"{operation.__module__}.{operation.__qualname__}" for operation in operations]
    before = settings.OPERATIONS
    settings.OPERATIONS = [*before, *(path for path in paths if path not in before)]
    forget_operations()
    try:
        yield
    finally:
        settings.OPERATIONS = before
        forget_operations()


@dataclass(frozen=True)
class Crash:
    """The worker dies when the job reaches this place for the nth time."""

    place: str
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.place}:{self.nth}"


@dataclass
class OperationRun:
    """A job that was run until it ended or became unknown, and how often it reached each place."""

    job: Job
    reached: Counter[str] = field(default_factory=Counter)
    has_crashed: bool = False

    @property
    def result(self) -> Any:  # noqa: ANN401 - any JSON value
        """Return what the operation returned; None if it did not succeed."""
        return None if self.job.result is None else decode_payload(self.job.result)

    @property
    def error(self) -> Any:  # noqa: ANN401 - any JSON value
        """Return the job's error; None if it succeeded."""
        return None if self.job.error is None else decode_payload(self.job.error)

    @property
    def calls(self) -> int:
        """Return how many calls were sent downstream, repeats included."""
        return self.reached["before_effect"]


def run_operation(
    operation: str, params: dict[str, Any], *, tenant_id: int, mode: str = "test", crash: Crash | None = None
) -> OperationRun:
    """Submit a job with these params, as a client sends them, and run it to its end.

    Raises ValueError if the API would refuse the params, AssertionError if the job cannot be claimed.
    """
    known = current_operation(operation)
    form = known.params(data=params)
    if not form.is_valid():
        raise ValueError(f"The API would refuse these params: {form.errors}")
    job = submit_job(tenant_id=tenant_id, mode=mode, submission=Submission(operation=known, params=params))
    return run_to_end(job.id, crash=crash)


def run_to_end(job_id: UUID, *, crash: Crash | None = None) -> OperationRun:
    """Deliver the job until it has ended or is unknown, over as many attempts as it takes."""
    run = OperationRun(Job.objects.get(pk=job_id))

    def on_reach(place: str) -> None:
        run.reached[place] += 1
        if crash is not None and (place, run.reached[place]) == (crash.place, crash.nth):
            run.has_crashed = True
            raise WorkerDied(str(crash))

    with watch(on_reach):
        for _ in range(_DELIVERIES_MAX):
            if State(run.job.state).is_settled:
                return run
            run.job = _deliver(run.job)
    raise AssertionError(f"The job did not end in {_DELIVERIES_MAX} deliveries: {run.job}.")


def every_crash(run: Callable[[], OperationRun]) -> Iterator[Crash]:
    """Run once without a crash, then yield one crash for each place that was reached, and each time."""
    reached = run().reached
    for place in PLACES:
        for nth in range(1, reached[place] + 1):
            yield Crash(place, nth)


def _deliver(job: Job) -> Job:
    """Return the job after one more delivery. If its worker died, its lease is expired at once."""
    _make_due(job)
    try:
        execute_job(job.id)
    except WorkerDied:
        dead = Job.objects.get(pk=job.id)
        # A worker that died before the claim or after the settle left no lease.
        if dead.state == State.RUNNING:
            Job.objects.filter(pk=job.id).update(lease_expires_at=dead.started_at)
            transitions.expire_job(job_id=job.id, attempt=dead.attempt, delay=timedelta(0))
    return Job.objects.get(pk=job.id)


def _make_due(job: Job) -> None:
    """Move the job's due time, and with it the starts of its effects, back by as long as it would have to wait."""
    ahead = job.run_at - timezone.now()
    if ahead <= timedelta(0):
        return
    ahead += timedelta(seconds=1)
    Job.objects.filter(pk=job.id).update(run_at=job.run_at - ahead)
    for step in JobStep.objects.filter(job_id=job.id, state=JobStep.State.STARTED):
        JobStep.objects.filter(job_id=job.id, name=step.name).update(
            first_started_at=step.first_started_at - ahead, last_started_at=step.last_started_at - ahead
        )
