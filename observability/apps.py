"""The observability app."""

from django.apps import AppConfig


class ObservabilityConfig(AppConfig):
    """Its management commands: alive, doctor, serve_metrics."""

    name = "observability"
    verbose_name = "Observability"
