"""The lease of an attempt in the memory of its process (local monotonic clock), and the thread that renews it."""

import os
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, TypeVar
from uuid import UUID

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, InternalError, OperationalError, close_old_connections, connection

from jobs.operations import LeaseLost
from jobs.queries.lease import LeaseView, await_writers, renew_lease
from workers import signals

T = TypeVar("T")
log = structlog.get_logger(__name__)

# Between two tries of a write while the database is down: a restart takes seconds.
_RETRY_SECONDS = 0.5
_EXIT_LEASE_LOST = 75  # EX_TEMPFAIL: another process will do the work


class Lease:
    """The lease of one attempt. Used by the attempt's thread and its heartbeat's.

    Its end is calculated from the time before the claim was sent, so that it never ends later here than in the database.
    """

    def __init__(
        self, *, job_id: UUID, attempt: int, time_limit: timedelta, claimed_at: float, cancel_requested: bool = False
    ) -> None:
        self.job_id = job_id
        self.attempt = attempt
        self.length = timedelta(seconds=settings.LEASE_SECONDS)
        # The lease is not renewed beyond this time after the claim. The margin lets an attempt settle after its time limit.
        self.attempt_limit = time_limit + timedelta(seconds=settings.ATTEMPT_MARGIN_SECONDS)
        self.cancel_requested = cancel_requested
        self._time_is_over_at = claimed_at + time_limit.total_seconds()
        self._lock = threading.Lock()
        self._ends_at = claimed_at + self.length.total_seconds()
        self._lost = False
        self._unfenced_until = 0.0

    @property
    def seconds_left(self) -> float:
        """Return the seconds for which no other attempt can be running; 0 once the lease is lost."""
        with self._lock:
            return 0.0 if self._lost else max(0.0, self._ends_at - time.monotonic())

    @property
    def is_lost(self) -> bool:
        """Return whether another attempt may be running."""
        return self.seconds_left == 0.0

    @property
    def is_out_of_time(self) -> bool:
        """Return whether the operation's time limit is over."""
        return time.monotonic() >= self._time_is_over_at

    @property
    def unfenced_seconds_left(self) -> float:
        """Return the seconds for which `retry_unfenced_write` may still try; 0 outside of it."""
        return max(0.0, self._unfenced_until - time.monotonic())

    def renew(self) -> None:
        """Renew the lease in the database."""
        sent_at = time.monotonic()
        view = renew_lease(
            job_id=self.job_id, attempt=self.attempt, lease=self.length, attempt_limit=self.attempt_limit
        )
        if view is None:
            self.mark_lost()
        else:
            self.apply_renewal(view, sent_at)

    def apply_renewal(self, view: LeaseView, sent_at: float) -> None:
        """Apply the lease's new end and the cancel request that a fenced write returned."""
        self.extend(sent_at + view.seconds_left)
        self.cancel_requested = self.cancel_requested or view.cancel_requested

    def extend(self, ends_at: float) -> None:
        """Extend the lease to this instant of the monotonic clock; never shorten it."""
        with self._lock:
            self._ends_at = max(self._ends_at, ends_at)

    def mark_lost(self) -> None:
        """Record that a fenced write matched no row: the attempt is stale, and all its later writes are refused."""
        with self._lock:
            is_new, self._lost = not self._lost, True
        if is_new:
            signals.write_refused.send_robust(sender=None)

    def fenced_write(
        self,
        statement: Callable[..., T | None],
        *,
        error: str,
        retry: bool = True,
        **values: Any,  # noqa: ANN401
    ) -> T:
        """Run a fenced statement of this attempt. Raise LeaseLost with `error` if it matched no row.

        retry: False inside a transaction, which is lost with its connection.
        """
        write = partial(statement, job_id=self.job_id, attempt=self.attempt, **values)
        result = self.retry_write(write) if retry else write()
        if not result:
            self.mark_lost()
            raise LeaseLost(error)
        return result

    def retry_write(self, write: Callable[[], T]) -> T:
        """Return the write's result. While the database is down, repeat it on a new connection until the lease ends.

        The write must be fenced, and its attempt must be able to repeat it. If a COMMIT succeeded and its reply was lost,
        the repeat
        finds the attempt's own record. (A repeated settle matches no row, as for a stale attempt. The job is settled in
        both cases.)
        Before the repeat, wait for a COMMIT that is still running: otherwise both could count the same effect.
        """
        return self._retry(write, lambda: self.seconds_left)

    def retry_unfenced_write(self, write: Callable[[], T]) -> T:
        """Repeat the write as `retry_write` does, but for one more LEASE_SECONDS.

        For a write that is needed after the lease is lost.
        """
        self._unfenced_until = time.monotonic() + self.length.total_seconds()
        try:
            return self._retry(write, lambda: self.unfenced_seconds_left)
        finally:
            self._unfenced_until = 0.0

    def _retry(self, write: Callable[[], T], seconds_left: Callable[[], float]) -> T:
        is_repeat = False
        while True:
            try:
                if is_repeat:
                    await_writers(self.job_id)
                return write()
            # InternalError: a standby that has not been promoted yet refuses writes.
            except (OperationalError, InterfaceError, InternalError) as error:
                connection.close()
                is_repeat = True
                if seconds_left() <= _RETRY_SECONDS:
                    raise
                log.warning("lease.write_retried", job_id=str(self.job_id), error=repr(error))
                time.sleep(_RETRY_SECONDS)


class Heartbeat:
    """Renews the lease every HEARTBEAT_SECONDS from a thread with a connection of its own, while the block runs.

    After a database error it tries again twice a second until the lease ends. Once the lease is lost, the operation stops at
    its next check. If it does not stop within LOST_LEASE_EXIT_SECONDS, the process exits: nothing else can stop the thread, and
    the worker must start a new process in its place.
    """

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._block_ended = threading.Event()
        # In the attempt's context, so that log lines carry the same ids.
        run = partial(copy_context().run, self._run)
        self._thread = threading.Thread(target=run, name=f"heartbeat-{lease.job_id}", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._block_ended.set()
        self._thread.join()

    def run_once(self) -> bool:
        """Renew the lease once; return False if the database did not answer."""
        try:
            close_old_connections()
            self._lease.renew()
        except (DatabaseError, InterfaceError) as error:
            log.warning("heartbeat.failed", job_id=str(self._lease.job_id), error=repr(error))
            connection.close()
            return False
        return True

    def _run(self) -> None:
        try:
            pause = settings.HEARTBEAT_SECONDS
            while not self._block_ended.wait(pause):
                if self._lease.is_lost:
                    self._exit_unless_block_ends()
                    return
                # Try again sooner after a failure: the lease may end before the next regular renewal.
                pause = settings.HEARTBEAT_SECONDS
                if not self.run_once():
                    pause = min(pause, _RETRY_SECONDS)
        finally:
            connection.close()

    def _exit_unless_block_ends(self) -> None:
        ends_at = time.monotonic() + settings.LOST_LEASE_EXIT_SECONDS
        # An unfenced write is not a hung operation; it has a time limit of its own.
        while (left := max(ends_at - time.monotonic(), self._lease.unfenced_seconds_left)) > 0:
            if self._block_ended.wait(min(left, settings.LOST_LEASE_EXIT_SECONDS)):
                return
        log.error("lease.process_ended", job_id=str(self._lease.job_id), attempt=self._lease.attempt)
        os._exit(_EXIT_LEASE_LOST)
