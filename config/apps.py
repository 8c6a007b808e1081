"""The composition root as a Django app: checks; and the admin, on our own site."""

from django.apps import AppConfig
from django.conf import settings
from django.contrib.admin import apps as admin_apps


class ConfigConfig(AppConfig):
    """What holds the packages together."""

    default = True
    name = "config"
    verbose_name = "Semel"

    def ready(self) -> None:
        """Settings are checked against one another, facts are counted; where that is asked for, work is traced."""
        from config import checks  # noqa: F401, PLC0415 - registers them
        from observability.metrics import receivers  # noqa: PLC0415

        receivers.connect()

        if settings.TRACING:
            # Its packages are an extra: who does not trace neither has nor loads them.
            from observability.tracing import start_tracing  # noqa: PLC0415

            start_tracing()


class OperatorAdminConfig(admin_apps.AdminConfig):
    """Django's admin, on the site that is made for the people on call."""

    default = False
    default_site = "operators.admin_site.OperatorSite"
