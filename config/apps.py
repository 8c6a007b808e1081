"""The composition root as a Django app: checks and logging."""

from django.apps import AppConfig


class ConfigConfig(AppConfig):
    """What holds the packages together."""

    name = "config"
    verbose_name = "Semel"

    def ready(self) -> None:
        """Settings are checked against one another, and log lines have one shape."""
        from config import checks  # noqa: F401, PLC0415 - registers them
        from config.observability.logging import configure_logging  # noqa: PLC0415

        configure_logging()
