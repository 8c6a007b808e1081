"""The idempotency app."""

from django.apps import AppConfig
from django.conf import settings

from foundation import fault_points


class IdempotencyConfig(AppConfig):
    """A logical request is accepted once."""

    name = "idempotency"
    verbose_name = "Idempotency"

    def ready(self) -> None:
        """Its settings are checked from now on, and a test's crash point is armed."""
        # Importable only once apps are loaded; the first registers its checks.
        from idempotency import checks, replays, signals  # noqa: F401, PLC0415

        signals.replayed.connect(replays.note_replay, dispatch_uid="count_replays")

        fault_points.arm(getattr(settings, "CRASHPOINT", ""))
