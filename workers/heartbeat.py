"""The heartbeat: one thread per process that renews the leases of all its attempts in one statement."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NoReturn

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, close_old_connections, connection

from jobs.queries.lease import renew_leases

if TYPE_CHECKING:
    from workers.lease import Lease

log = structlog.get_logger(__name__)

# Until the next try after a database error, or if another transaction had locked the job's row.
_RETRY_SECONDS: Final = 0.5
_EXIT_LEASE_LOST: Final = 75  # EX_TEMPFAIL: another process will do the work


def end_process(lease: Lease) -> NoReturn:
    """End this process: nothing else can stop a thread. The worker starts a new process in its place."""
    log.error("lease.process_ended", job_id=str(lease.job_id), attempt=lease.attempt)
    os._exit(_EXIT_LEASE_LOST)


@dataclass(slots=True)
class _Watch:
    """What the heartbeat knows of a lease."""

    next_at: float  # when to renew the lease, or to look again whether its attempt has stopped
    is_lost: bool = False


class Heartbeat:
    """Renews each lease every HEARTBEAT_SECONDS, while its block runs.

    To watch a lease touches no database and starts no thread, except for the first lease of a process. A short job is over before
    its first renewal. The thread's connection is its own: it is opened for a renewal, and closed when no attempt runs.

    After a database error it tries again twice a second until the leases end. Once a lease is lost, its operation stops at
    its next check. If it does not stop within LOST_LEASE_EXIT_SECONDS, `on_stuck` is called, once.
    """

    def __init__(self) -> None:
        self.on_stuck: Callable[[Lease], None] = end_process
        self._start_empty()
        # A forked child has neither the thread nor the attempts of its parent.
        os.register_at_fork(after_in_child=self._start_empty)

    def _start_empty(self) -> None:
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._watches: dict[Lease, _Watch] = {}
        self._is_connected = False

    @contextmanager
    def renewing(self, lease: Lease) -> Iterator[None]:
        """Renew the lease while the block runs."""
        with self._changed:
            self._watches[lease] = _Watch(time.monotonic() + settings.HEARTBEAT_SECONDS)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._changed:
                del self._watches[lease]
                if self._is_idle:
                    self._changed.notify_all()

    def stop(self) -> None:
        """End the thread and wait for it; the next lease starts another. For tests that change its intervals."""
        with self._changed:
            thread, self._thread = self._thread, None
            self._changed.notify_all()
        if thread is not None:
            thread.join()

    def run_once(self) -> float:
        """Renew the leases that are due, handle the lost ones, and return the seconds until the next of them is due."""
        with self._changed:
            watches = dict(self._watches)
        now = time.monotonic()
        for lease, watch in watches.items():
            if lease.is_lost and watch.next_at <= now:
                self._handle_lost(lease, watch, now)
        if any(watch.next_at <= now and not lease.is_lost for lease, watch in watches.items()):
            # Together with those that are due soon, so that leases of different ages share a statement.
            soon = now + settings.HEARTBEAT_SECONDS / 3
            self._renew(
                {lease: watch for lease, watch in watches.items() if watch.next_at <= soon and not lease.is_lost}
            )
        if not watches:
            connection.close()
            self._is_connected = False
        next_at = min((watch.next_at for watch in watches.values()), default=float("inf"))
        return float(min(max(0.0, next_at - time.monotonic()), settings.HEARTBEAT_SECONDS))

    @property
    def _is_idle(self) -> bool:
        """Return whether the thread holds a connection for nothing."""
        return self._is_connected and not self._watches

    def _run(self) -> None:
        pause = settings.HEARTBEAT_SECONDS
        while self._wait(pause):
            try:
                pause = self.run_once()
            except Exception:  # the thread must go on: it renews the leases of later attempts too
                log.exception("heartbeat.raised")
                pause = _RETRY_SECONDS
        connection.close()

    def _wait(self, seconds: float) -> bool:
        """Wait that long, at most until the last attempt has ended. Return False if this thread must end."""
        this = threading.current_thread()
        with self._changed:
            self._changed.wait_for(lambda: self._thread is not this or self._is_idle, seconds)
            return self._thread is this

    def _renew(self, due: dict[Lease, _Watch]) -> None:
        sent_at = time.monotonic()
        retry_at = sent_at + min(settings.HEARTBEAT_SECONDS, _RETRY_SECONDS)
        self._is_connected = True
        try:
            close_old_connections()
            renewal = renew_leases([lease.key for lease in due], lease=timedelta(seconds=settings.LEASE_SECONDS))
        except (DatabaseError, InterfaceError) as error:
            log.warning("heartbeat.failed", job_ids=[str(lease.job_id) for lease in due], error=repr(error))
            connection.close()
            for watch in due.values():
                watch.next_at = retry_at
            return
        for lease, watch in due.items():
            held = (lease.job_id, lease.attempt)
            watch.next_at = sent_at + settings.HEARTBEAT_SECONDS
            if held in renewal.renewed:
                lease.apply_renewal(renewal.renewed[held], sent_at)
            elif held in renewal.locked:
                watch.next_at = retry_at
            elif lease in self._watches:  # not if its attempt has ended meanwhile
                lease.mark_lost()
                watch.next_at = sent_at

    def _handle_lost(self, lease: Lease, watch: _Watch, now: float) -> None:
        """Call `on_stuck` if the attempt has not stopped in time. An unfenced write has a time limit of its own."""
        if not watch.is_lost or lease.unfenced_seconds_left > 0:
            watch.is_lost, watch.next_at = True, now + settings.LOST_LEASE_EXIT_SECONDS
        elif lease in self._watches:
            watch.next_at = float("inf")
            self.on_stuck(lease)


heartbeat: Final = Heartbeat()
