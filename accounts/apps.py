"""The accounts app."""

from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate


class AccountsConfig(AppConfig):
    """Whose jobs these are."""

    name = "accounts"
    verbose_name = "Accounts"

    def ready(self) -> None:
        """Whoever migrates finds the groups of operators."""
        # Models can be imported only now, when every app is loaded.
        from accounts.groups import make_groups  # noqa: PLC0415

        # After django.contrib.auth's own receiver, which makes each app's permissions: it stands before us in INSTALLED_APPS.
        for name in ("accounts", "idempotency", "jobs"):
            post_migrate.connect(
                make_groups, sender=apps.get_app_config(name), dispatch_uid=f"semel groups {name}"
            )
