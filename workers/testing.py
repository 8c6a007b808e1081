"""For tests of operations: run one to its end in this process, let its worker die anywhere, and count what it sent.

    def test_a_charge_is_made_once_wherever_its_worker_dies(tenant):
        for crash in every_crash(lambda: rehearse("payments.charge", PARAMS, tenant_id=tenant.id)):
            rehearsed = rehearse("payments.charge", PARAMS, tenant_id=tenant.id, crash=crash)
            assert rehearsed.job.state == "succeeded"

Rows, claims, leases and records are the real ones; no broker and no other process takes part, and no time is waited for: a job
that is due later is made due by moving its own past.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.utils import timezone

from foundation.fault_points import watch
from jobs import transitions
from jobs.models import Job, JobStep
from jobs.payloads import decode_payload
from jobs.registry import current_operation, forget_operations
from jobs.states import State
from jobs.submission import Submission, submit_job
from workers.executor import execute_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from jobs.operations import Operation

# Where a worker can die on a job's way; the nth time that it comes by.
PLACES = (
    "after_claim",
    "before_effect",
    "after_effect",
    "mid_step",
    "after_record",
    "before_artifact",
    "before_settle",
)
# More deliveries than any job needs: attempts, postponements and the attempt that only asks.
_DELIVERIES_MAX = 50


class Died(BaseException):
    """The worker is gone: nobody handles this, and nothing is written any more."""


@contextmanager
def registered(*operations: type[Operation]) -> Iterator[None]:
    """While the block runs, this process knows these operations as well, wherever settings.OPERATIONS names them not yet."""
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
    """The worker dies at this place, the nth time that the job comes by."""

    place: str
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.place}:{self.nth}"


@dataclass
class Rehearsed:
    """A job that was run until no process of ours moves it on, and how often it came by each place."""

    job: Job
    passed: Counter[str] = field(default_factory=Counter)
    has_crashed: bool = False

    @property
    def result(self) -> Any:  # noqa: ANN401 - any JSON value
        """What the operation returned; None where it did not succeed."""
        return None if self.job.result is None else decode_payload(self.job.result)

    @property
    def error(self) -> Any:  # noqa: ANN401 - any JSON value
        """Why the job did not succeed; None where it did."""
        return None if self.job.error is None else decode_payload(self.job.error)

    @property
    def calls(self) -> int:
        """How often something was sent downstream, repeats included."""
        return self.passed["before_effect"]


def rehearse(
    operation: str,
    params: dict[str, Any],
    *,
    tenant_id: int,
    mode: str = "test",
    crash: Crash | None = None,
) -> Rehearsed:
    """The operation has been run to its end, over as many attempts as it takes. Params are as a client sends them.

    Raises ValueError for params that the API would refuse, AssertionError where the job cannot be claimed.
    """
    known = current_operation(operation)
    form = known.params(data=params)
    if not form.is_valid():
        raise ValueError(f"The API would refuse these params: {form.errors}")
    job = submit_job(tenant_id=tenant_id, mode=mode, submission=Submission(operation=known, params=params))
    return run_to_end(job.id, crash=crash)


def run_to_end(job_id: UUID, *, crash: Crash | None = None) -> Rehearsed:
    """The job has been delivered again and again, until it has ended or is unknown."""
    rehearsed = Rehearsed(Job.objects.get(pk=job_id))

    def pass_by(place: str) -> None:
        rehearsed.passed[place] += 1
        if crash is not None and (place, rehearsed.passed[place]) == (crash.place, crash.nth):
            rehearsed.has_crashed = True
            raise Died(str(crash))

    with watch(pass_by):
        for _ in range(_DELIVERIES_MAX):
            if State(rehearsed.job.state).is_settled:
                return rehearsed
            rehearsed.job = _deliver(rehearsed.job)
    raise AssertionError(f"The job did not end in {_DELIVERIES_MAX} deliveries: {rehearsed.job}.")


def every_crash(run: Callable[[], Rehearsed]) -> Iterator[Crash]:
    """Each place at which `run` comes by, each time that it does."""
    passed = run().passed
    for place in PLACES:
        for nth in range(1, passed[place] + 1):
            yield Crash(place, nth)


def _deliver(job: Job) -> Job:
    """The job after one more delivery; after the end of its lease, if its worker died."""
    _let_time_pass(job)
    try:
        execute_job(job.id)
    except Died:
        dead = Job.objects.get(pk=job.id)
        # A worker that died after the end, or before the claim, left no lease.
        if dead.state == State.RUNNING:
            Job.objects.filter(pk=job.id).update(lease_expires_at=dead.started_at)
            transitions.expire_job(job_id=job.id, attempt=dead.attempt, delay=timedelta(0))
    return Job.objects.get(pk=job.id)


def _let_time_pass(job: Job) -> None:
    """As much of it as the job would have to wait for."""
    ahead = job.run_at - timezone.now()
    if ahead <= timedelta(0):
        return
    ahead += timedelta(seconds=1)
    Job.objects.filter(pk=job.id).update(run_at=job.run_at - ahead)
    for step in JobStep.objects.filter(job_id=job.id, state=JobStep.State.STARTED):
        JobStep.objects.filter(job_id=job.id, name=step.name).update(
            first_started_at=step.first_started_at - ahead, last_started_at=step.last_started_at - ahead
        )
