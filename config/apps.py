"""The composition root as a Django app: checks."""

from django.apps import AppConfig


class ConfigConfig(AppConfig):
    """What holds the packages together."""

    name = "config"
    verbose_name = "Semel"

    def ready(self) -> None:
        """Settings are checked against one another."""
        from config import checks  # noqa: F401, PLC0415 - registers them
