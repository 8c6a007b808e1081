"""Beat's scheduler (settings.CELERY_BEAT_SCHEDULER): Celery's own, which also updates beat's liveness file."""

from __future__ import annotations

from typing import Any

from celery.beat import PersistentScheduler

from observability.liveness import Pulse


class Scheduler(PersistentScheduler):  # type: ignore[misc] # Celery ships no types
    """Checked with `python -m observability.liveness beat`."""

    pulse = Pulse("beat")

    def tick(self, *args: Any, **options: Any) -> float:  # noqa: ANN401 - Celery's signature
        """Return the seconds until the next tick."""
        self.pulse.beat()
        return float(super().tick(*args, **options))
