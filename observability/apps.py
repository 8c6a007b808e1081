"""The observability app."""

from django.apps import AppConfig


class ObservabilityConfig(AppConfig):
    name = "observability"
    verbose_name = "Observability"

    def ready(self) -> None:
        """Register the doctor's check."""
        from observability.doctor import checks  # noqa: F401, PLC0415 - registers it
