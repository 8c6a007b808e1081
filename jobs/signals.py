"""Signals that observability counts and logs."""

from dataclasses import dataclass

from django.db import transaction
from django.dispatch import Signal


@dataclass(frozen=True)
class StateChange:
    """A new job, or a change of a job's state."""

    operation: str
    event: str
    state: str
    # Of a claim: how long the job had been due.
    wait_seconds: float | None = None


# Sent once for each rule that the self-audit found broken: ``violation_found.send_robust(sender=None, finding=Finding)``.
violation_found = Signal()
# Sent after the commit that changed a job's state: ``state_changed.send_robust(sender=None, change=StateChange)``.
state_changed = Signal()
# Sent by the streams process when a request starts or stops waiting: kind ("wait" or "stream"); at the end also seconds.
wait_started = Signal()
wait_ended = Signal()


def announce_state_change(change: StateChange) -> None:
    """Send the signal once this transaction is committed. Called after each statement that sets a job's state."""
    transaction.on_commit(lambda: _send(change), robust=True)


def _send(change: StateChange) -> None:
    state_changed.send_robust(sender=None, change=change)
