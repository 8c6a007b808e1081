"""The idempotency app."""

from django.apps import AppConfig
from django.conf import settings

from idempotency import crashpoints


class IdempotencyConfig(AppConfig):
    """A logical request is accepted once."""

    name = "idempotency"
    verbose_name = "Idempotency"

    def ready(self) -> None:
        """Its settings are checked from now on, and a test's crash point is armed."""
        from idempotency import checks  # noqa: F401, PLC0415 # registers them; importable only once apps are loaded

        crashpoints.arm(getattr(settings, "CRASHPOINT", ""))
