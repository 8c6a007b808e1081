"""The operators app."""

from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate


class OperatorsConfig(AppConfig):
    """The admin and the two groups of its users."""

    name = "operators"
    verbose_name = "Operators"

    def ready(self) -> None:
        """Create the groups after each migration, once their permissions exist."""
        from operators.groups import APPS, create_groups  # noqa: PLC0415 - imports models, which are loaded by now

        # django.contrib.auth creates each app's permissions on the same signal. Its receiver runs first, because it precedes
        # this app in INSTALLED_APPS.
        for name in APPS:
            post_migrate.connect(create_groups, sender=apps.get_app_config(name), dispatch_uid=f"semel groups {name}")
