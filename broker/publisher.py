"""The publisher: one thread per process that sends hints and wake-ups, so that no caller ever waits for the broker."""

import atexit
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final
from uuid import UUID

import redis
import structlog
from django.conf import settings
from django.db import transaction

from broker import signals
from broker.circuit_breaker import redis_breaker
from broker.client import redis_client
from broker.hints import DueJob, add_push
from broker.wakeups import CHANNEL, JobChange, encode
from foundation.fault_points import reach

log = structlog.get_logger(__name__)

# Jobs whose wake-up waits to be sent. More changes than that in the time of one answer are left to the waiters' own poll.
_WAKEUPS_MAX: Final = 1_000
# Round trips per second while callers keep publishing, and how many may follow each other at once: a single change is sent
# immediately, and a busy process sends what gathers in 10 ms together.
_FLUSHES_PER_SECOND, _BURST = 100, 5
# Hints of jobs that are due later. The sweep finds those that do not fit, once they are due.
_LATER_MAX: Final = 1_000
# Seconds that a process waits at its end for what is not sent yet.
_LAST_FLUSH_SECONDS: Final = 1.0

Hints = Mapping[str, list[UUID]]


class Publisher:
    """Gathers hints and wake-ups, and sends what has gathered in one round trip. Callers never wait and get no error.

    Hints are added to a queue only while it holds fewer than HINTS_MAX messages; the others are dropped. So the broker's memory
    does not grow with the number of jobs. Dropping is safe: it is decided after the commit of the dropped job, by this process's
    buffer or by the server. At that moment other hints of the queue wait, and the worker that takes one of them looks at the
    table later, after that commit. If those hints are lost too, the sweep finds the job.
    """

    def __init__(self) -> None:
        self._start_empty()
        # A forked child has neither the thread nor a usable lock; what had gathered is sent by its parent.
        os.register_at_fork(after_in_child=self._start_empty)
        atexit.register(self.flush)

    def _start_empty(self) -> None:
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._hints: dict[str, list[UUID]] = {}
        self._later: list[
            tuple[float, int, DueJob]
        ] = []  # a heap: when to send the hint, and a number that breaks ties
        self._numbers = count()
        self._wakeups: dict[UUID, int] = {}
        self._dropped_hints = 0
        self._is_sending = False

    def publish_hint(self, due: DueJob) -> None:
        """Send a hint of the job when it is due. Call it after the commit that queued the job, never inside the transaction."""
        with self._changed:
            if due.in_seconds <= 0:
                self._gather(due)
            elif len(self._later) < _LATER_MAX:
                heappush(self._later, (time.monotonic() + due.in_seconds, next(self._numbers), due))
            self._wake_thread()

    def wake_waiters(self, change: JobChange) -> None:
        """Send a wake-up soon, after the commit of the change. Of several changes of a job the last is sent."""
        with self._changed:
            if change.id in self._wakeups or len(self._wakeups) < _WAKEUPS_MAX:
                self._wakeups[change.id] = max(change.seq, self._wakeups.get(change.id, 0))
                self._wake_thread()

    def flush(self, seconds: float = _LAST_FLUSH_SECONDS) -> bool:
        """Wait until everything that is due has been sent or dropped; return False if that takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._has_work or self._is_sending), seconds)

    @property
    def _has_work(self) -> bool:
        return bool(self._hints or self._wakeups)

    def _gather(self, due: DueJob) -> None:
        gathered = self._hints.setdefault(due.queue, [])
        if len(gathered) < settings.HINTS_MAX:
            gathered.append(due.id)
        else:
            self._dropped_hints += 1

    def _wait_for_work(self) -> None:
        while True:
            now = time.monotonic()
            while self._later and self._later[0][0] <= now:
                self._gather(heappop(self._later)[-1])
            if self._has_work:
                return
            self._changed.wait(self._later[0][0] - now if self._later else None)

    def _wake_thread(self) -> None:
        if self._thread is None:
            # Starting a thread fails only while the interpreter shuts down: then the sweep and the poll find the rest.
            with suppress(RuntimeError):
                thread = threading.Thread(target=self._run, name="publisher", daemon=True)
                thread.start()
                self._thread = thread
        self._changed.notify_all()

    def _run(self) -> None:
        next_at = 0.0  # when the next round trip should begin, if there were no bursts
        while True:
            with self._changed:
                self._wait_for_work()
                hints, self._hints = self._hints, {}
                wakeups, self._wakeups = self._wakeups, {}
                dropped, self._dropped_hints = self._dropped_hints, 0
                self._is_sending = True
            try:
                _send(hints, wakeups, dropped_hints=dropped)
            except Exception:
                log.exception("publisher.raised")
            with self._changed:
                self._is_sending = False
                self._changed.notify_all()
            now = time.monotonic()
            next_at = max(next_at, now) + 1 / _FLUSHES_PER_SECOND
            time.sleep(max(0.0, next_at - now - _BURST / _FLUSHES_PER_SECOND))


publisher: Final = Publisher()


def publish_hint_on_commit(due: DueJob) -> None:
    """Publish a hint of this queued job after this transaction's commit; at once if there is no transaction.

    Robust: a failure here must not turn a committed answer into an error; the sweep finds the job in any case.
    """
    transaction.on_commit(lambda: publish_committed(due), robust=True)


def wake_waiters_on_commit(job_id: UUID, seq: int) -> None:
    """Publish the change after this transaction's commit. Called next to each statement that appends an event."""
    transaction.on_commit(lambda: publisher.wake_waiters(JobChange(job_id, seq)), robust=True)


def publish_committed(due: DueJob) -> None:
    """Publish a hint of this queued job, whose transaction is committed."""
    reach("after_commit")
    publisher.publish_hint(due)


def _send(hints: Hints, wakeups: Mapping[UUID, int], *, dropped_hints: int) -> None:
    """Send everything in one round trip, or drop it while the breaker is open. Never raises for Redis."""
    total = sum(map(len, hints.values()))
    sent = failed = 0
    if redis_breaker.allows():
        try:
            sent = _execute(hints, wakeups)
            redis_breaker.succeeded()
        except redis.RedisError as error:
            redis_breaker.failed()
            failed = total
            log.warning("publish.failed", error=repr(error), hints=total, wakeups=len(wakeups))
    if total or dropped_hints:
        skipped = total - sent - failed + dropped_hints
        signals.hints_published.send_robust(sender=None, sent=sent, failed=failed, skipped=skipped)


def _execute(hints: Hints, wakeups: Mapping[UUID, int]) -> int:
    """Return how many hints fitted. A server that does not know the script yet costs a second round trip."""
    try:
        return _pipeline(hints, wakeups, by_digest=True)
    except redis.exceptions.NoScriptError:
        return _pipeline(hints, {}, by_digest=False)


def _pipeline(hints: Hints, wakeups: Mapping[UUID, int], *, by_digest: bool) -> int:
    pipeline = redis_client().pipeline(transaction=False)
    for queue, job_ids in hints.items():
        add_push(pipeline, queue=queue, job_ids=job_ids, full_at=settings.HINTS_MAX, by_digest=by_digest)
    if wakeups:
        pipeline.publish(CHANNEL, encode(JobChange(job_id, seq) for job_id, seq in wakeups.items()))
    # Every command is executed and answered; then the first error is raised.
    answers: list[Any] = pipeline.execute()
    return sum(answers[: len(hints)])
