"""The observability app."""

from django.apps import AppConfig
from django.conf import settings


class ObservabilityConfig(AppConfig):
    name = "observability"
    verbose_name = "Observability"

    def ready(self) -> None:
        """Register the doctor's check, start counting, and start tracing if a setting asks for it."""
        from observability.doctor import checks  # noqa: F401, PLC0415 - registers it
        from observability.metrics import receivers  # noqa: PLC0415 - its imports need loaded models

        receivers.connect()
        if settings.TRACING:
            # Needs requirements-otel.txt, which only a traced deployment installs.
            from observability.tracing import start_tracing  # noqa: PLC0415

            start_tracing()
