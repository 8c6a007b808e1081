"""The lease of an attempt in the memory of its process (local monotonic clock), and the fenced writes under it."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import structlog
from django.conf import settings
from django.db import InterfaceError, InternalError, OperationalError, connection

from jobs.operations import LeaseLost
from jobs.queries.lease import LeaseKey, LeaseView, await_writers
from workers import signals

T = TypeVar("T")
log = structlog.get_logger(__name__)

# Between two tries of a write while the database is down: a restart takes seconds.
_RETRY_SECONDS = 0.5


class Lease:
    """The lease of one attempt. Used by the attempt's thread and the heartbeat's (workers/heartbeat.py).

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
    def key(self) -> LeaseKey:
        """Return what a renewal needs to know."""
        return LeaseKey(self.job_id, self.attempt, self.attempt_limit)

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
        the repeat finds the attempt's own record. (A repeated settle matches no row, as for a stale attempt. The job is
        settled in both cases.) Before the repeat, wait for a COMMIT that is still running: otherwise both could count the
        same effect.
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
