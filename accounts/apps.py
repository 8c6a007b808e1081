"""The accounts app."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Tenants, API keys and the audit log."""

    name = "accounts"
    verbose_name = "Accounts"
