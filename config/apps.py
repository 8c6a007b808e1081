"""Django app of the composition root, and the admin on our own site."""

from django.apps import AppConfig
from django.conf import settings
from django.contrib.admin import apps as admin_apps


class ConfigConfig(AppConfig):
    default = True
    name = "config"
    verbose_name = "Semel"

    def ready(self) -> None:
        """Register the system checks, connect the metrics, and start tracing if a setting asks for it."""
        from config import checks  # noqa: F401, PLC0415 - registers them
        from observability.metrics import receivers  # noqa: PLC0415

        receivers.connect()

        if settings.TRACING:
            # Its packages are an extra that only a traced deployment installs.
            from observability.tracing import start_tracing  # noqa: PLC0415

            start_tracing()


class OperatorAdminConfig(admin_apps.AdminConfig):
    """Django's admin on the operators' site."""

    default = False
    default_site = "operators.admin_site.OperatorSite"
