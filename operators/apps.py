"""The operators app."""

from django.apps import AppConfig


class OperatorsConfig(AppConfig):
    """Pages and actions for operators."""

    name = "operators"
    verbose_name = "Operators"
