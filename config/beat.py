"""Beat's scheduler (settings.CELERY_BEAT_SCHEDULER): Celery's own, which also updates beat's liveness file."""

from typing import Any

from celery.beat import PersistentScheduler

from observability.liveness import LivenessFile


class Scheduler(PersistentScheduler):  # type: ignore[misc] # Celery ships no types
    """Checked with `python -m observability.liveness beat`."""

    liveness_file = LivenessFile("beat")

    def tick(self, *args: Any, **options: Any) -> float:  # noqa: ANN401 - Celery's signature
        """Return the seconds until the next tick."""
        self.liveness_file.touch()
        return float(super().tick(*args, **options))
