"""The payments app."""

from django.apps import AppConfig


class PaymentsConfig(AppConfig):
    """The payment operations' own tables."""

    name = "operations.payments"
    label = "payments"
    verbose_name = "Payments"
