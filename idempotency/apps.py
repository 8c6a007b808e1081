"""The idempotency app."""

from django.apps import AppConfig


class IdempotencyConfig(AppConfig):
    """A logical request is accepted once."""

    name = "idempotency"
    verbose_name = "Idempotency"

    def ready(self) -> None:
        """Its settings are checked from now on."""
        from idempotency import checks  # noqa: F401, PLC0415 # registers them; importable only once apps are loaded
