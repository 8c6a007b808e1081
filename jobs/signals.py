"""Facts that jobs announces and others act on; nobody here knows who listens."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction
from django.dispatch import Signal


@dataclass(frozen=True)
class JobMove:
    """A job came into being, or from one state to another."""

    operation: str
    event: str
    state: str
    # Of a claim: since when the job had been due.
    wait_seconds: float | None = None


# Sent once for each rule that the self-audit found broken: ``violation_found.send_robust(sender=None, finding=Finding)``.
violation_found = Signal()
# Sent after the commit that moved a job, for whoever counts: ``job_moved.send_robust(sender=None, move=JobMove)``.
job_moved = Signal()
# On the streams process a request began to wait, or no longer does: kind ("wait" or "stream"); at its end also seconds.
hold_began = Signal()
hold_ended = Signal()


def announce_move(move: JobMove) -> None:
    """Once this transaction is committed, whoever counts is told. Called by each statement that gives a job its state."""
    transaction.on_commit(lambda: _send_move(move), robust=True)


def _send_move(move: JobMove) -> None:
    job_moved.send_robust(sender=None, move=move)
