"""The api app."""

from django.apps import AppConfig


class ApiConfig(AppConfig):
    """Its static files."""

    name = "api"
    verbose_name = "API"
