"""The accounts app."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Whose jobs these are."""

    name = "accounts"
    verbose_name = "Accounts"
