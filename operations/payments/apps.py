"""Django app of the payment operations: it owns their tables."""

from django.apps import AppConfig


class PaymentsConfig(AppConfig):
    name = "operations.payments"
    label = "payments"
    verbose_name = "Payments"
