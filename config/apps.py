"""Django app of the composition root, and the admin on our own site."""

from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps


class SettingsChecksConfig(AppConfig):
    default = True
    name = "config"
    verbose_name = "Semel"

    def ready(self) -> None:
        from config import checks  # noqa: F401, PLC0415 - registers the system checks


class OperatorAdminConfig(admin_apps.AdminConfig):
    """Django's admin on the operators' site."""

    default = False
    default_site = "operators.admin_site.OperatorSite"
