"""An attempt's right to run, as its own process knows it: by the local monotonic clock, from before the claim was sent."""

from __future__ import annotations

import os
import threading
import time
from contextvars import copy_context
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import structlog
from django.conf import settings
from django.db import (
    DatabaseError,
    InterfaceError,
    InternalError,
    OperationalError,
    close_old_connections,
    connection,
)

from jobs.queries.lease import LeaseView, await_writers, renew_lease
from workers import signals

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from uuid import UUID

T = TypeVar("T")
log = structlog.get_logger(__name__)

# Between two tries of a write while the database is away: a restart takes seconds.
_RETRY_SECONDS = 0.5
_EXIT_LOST = 75  # EX_TEMPFAIL: another process will do it


class Lease:
    """The lease of one attempt. Safe to use from the attempt's thread and its heartbeat's."""

    def __init__(self, *, job_id: UUID, attempt: int, time_limit: timedelta, claimed_at: float) -> None:
        self.job_id = job_id
        self.attempt = attempt
        # From the claim: how long the lease can be renewed, and when the attempt is asked to stop. Its last words take a while.
        self.attempt_limit = time_limit + timedelta(seconds=settings.ATTEMPT_MARGIN_SECONDS)
        self._time_is_over_at = claimed_at + time_limit.total_seconds()
        self.length = timedelta(seconds=settings.LEASE_SECONDS)
        self.cancel_requested = False
        self._lock = threading.Lock()
        self._ends_at = claimed_at + self.length.total_seconds()
        self._lost = False
        self._witnesses_until = 0.0

    @property
    def seconds_left(self) -> float:
        """Seconds for which this attempt is surely the only one; 0 once the lease is lost."""
        with self._lock:
            return 0.0 if self._lost else max(0.0, self._ends_at - time.monotonic())

    @property
    def is_lost(self) -> bool:
        """Whether another attempt may be running."""
        return self.seconds_left == 0.0

    @property
    def is_out_of_time(self) -> bool:
        """Whether the attempt has had the time that its operation gives it."""
        return time.monotonic() >= self._time_is_over_at

    def renew(self) -> None:
        """The lease runs on, and a wish to cancel is known; or it is known to be lost."""
        asked_at = time.monotonic()
        view = renew_lease(
            job_id=self.job_id, attempt=self.attempt, lease=self.length, attempt_limit=self.attempt_limit
        )
        self.learn(view, asked_at)

    def insist(self, write: Callable[[], T]) -> T:
        """What the write returned, tried again on a new connection while the lease lasts: what is known must get on record.

        Each such write is fenced and may be repeated by its attempt: one whose COMMIT got through although its reply was lost
        finds its own record the second time. Only a settle finds no row then, and reads that as what it is: settled. One whose
        COMMIT is still under way is waited for: side by side, the second would count again what the first one has counted.
        """
        return self._insist(write, lambda: self.seconds_left)

    def insist_as_witness(self, write: Callable[[], T]) -> T:
        """As `insist`, of a write that no fence forbids, for as long again as a lease: made because the lease is lost."""
        self._witnesses_until = time.monotonic() + self.length.total_seconds()
        try:
            return self._insist(write, lambda: self.witness_seconds_left)
        finally:
            self._witnesses_until = 0.0

    @property
    def witness_seconds_left(self) -> float:
        """Seconds for which the attempt may still try to tell what it heard; 0 where it has nothing to tell."""
        return max(0.0, self._witnesses_until - time.monotonic())

    def _insist(self, write: Callable[[], T], seconds_left: Callable[[], float]) -> T:
        is_repeat = False
        while True:
            try:
                if is_repeat:
                    await_writers(self.job_id)
                return write()
            # InternalError: a standby that has not been promoted yet, and takes no write.
            except (OperationalError, InterfaceError, InternalError) as error:
                connection.close()
                is_repeat = True
                if seconds_left() <= _RETRY_SECONDS:
                    raise
                log.warning("lease.write_again", job_id=str(self.job_id), error=repr(error))
                time.sleep(_RETRY_SECONDS)

    def learn(self, view: LeaseView | None, asked_at: float) -> None:
        """Take over what a fenced write told: None means that the attempt holds the job no more."""
        if view is None:
            self.lose()
            return
        self.extend(asked_at + view.seconds_left)
        self.cancel_requested = self.cancel_requested or view.cancel_requested

    def extend(self, ends_at: float) -> None:
        """The lease runs until that instant of the monotonic clock."""
        with self._lock:
            self._ends_at = max(self._ends_at, ends_at)

    def lose(self) -> None:
        """Nothing that this attempt writes counts any more: a fenced write of its matched no row."""
        with self._lock:
            is_news, self._lost = not self._lost, True
        if is_news:
            signals.write_refused.send_robust(sender=None)


class Heartbeat:
    """Renews a lease from a thread of its own while the attempt works, once it outlives the first interval.

    A database error is no loss: it tries again, twice a second, until the lease's local end. The thread has its own
    connection. Once the lease is lost, the operation stops at its next check; one that does not is ended with its whole
    process, since nothing else can stop it and its place in the worker is needed.
    """

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._over = threading.Event()
        # In its attempt's context, so that its log lines carry the same ids.
        run = partial(copy_context().run, self._run)
        self._thread = threading.Thread(target=run, name=f"heartbeat-{lease.job_id}", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            pause = settings.HEARTBEAT_SECONDS
            while not self._over.wait(pause):
                if self._lease.is_lost:
                    self._end_process_unless_over()
                    return
                # The lease may end before the next beat: a database that is back by then must be found.
                pause = settings.HEARTBEAT_SECONDS
                if not self.run_once():
                    pause = min(pause, _RETRY_SECONDS)
        finally:
            connection.close()

    def _end_process_unless_over(self) -> None:
        ends_at = time.monotonic() + settings.LOST_LEASE_EXIT_SECONDS
        # Who still tries to put on record what became of an effect is not stuck: it has a bound of its own.
        while (left := max(ends_at - time.monotonic(), self._lease.witness_seconds_left)) > 0:
            if self._over.wait(min(left, settings.LOST_LEASE_EXIT_SECONDS)):
                return
        log.error("lease.process_ended", job_id=str(self._lease.job_id), attempt=self._lease.attempt)
        os._exit(_EXIT_LOST)

    def run_once(self) -> bool:
        """Whether the database has answered: the lease is renewed, or known to be lost."""
        try:
            close_old_connections()
            self._lease.renew()
        except (DatabaseError, InterfaceError) as error:
            log.warning("heartbeat.failed", job_id=str(self._lease.job_id), error=repr(error))
            connection.close()
            return False
        return True
